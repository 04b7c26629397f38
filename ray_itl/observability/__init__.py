"""What a run tells of itself.

reporter (stages, picks, rounds) through console (lines, JSON, nothing) or live (one live line); status (status.json and
its heartbeat); settings and tracker (MLflow, TensorBoard, Weights & Biases: run_log, mlflow_log, tensorboard_log,
wandb_log), whose failures are told, not raised.
"""
