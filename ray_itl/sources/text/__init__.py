"""Text files as pools: JSON lines and CSV, compressed or not.

json_lines and delimited (their rows as Arrow batches, in bounded memory), twin (each file's rows as Parquet, made once
and kept in a cache: what of a pool is read from then on).
"""
