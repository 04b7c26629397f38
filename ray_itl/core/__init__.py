"""The selection engine: pure torch, in float64 where it decides. Nothing here imports Ray or pyarrow."""
