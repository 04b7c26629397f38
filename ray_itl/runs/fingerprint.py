"""Digests of rows, files and tensors: what decides the result of a run, so that a changed input is noticed."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import Tensor

from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource, RowSource
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.parquet import ParquetSource


def pool_fingerprint(source: PoolSource) -> str:
    """Return the fingerprint of an embedded pool: its manifest's where it is Parquet files, else of ids and embeddings.

    Not `rows_fingerprint` of the embedding column: run directories hold both, which must stay what they are.
    """
    if isinstance(source, ParquetSource):
        return source.manifest.fingerprint
    if isinstance(source, TableSource) and source.encoding is not None:
        words = f"{source.encoding.digest} {rows_fingerprint(source, source.encoding.column)}"
        return sha256(words.encode()).hexdigest()
    digest = sha256()
    for ids, rows in source.batches(0, source.num_rows, BadRows()):
        id_bytes = ids.tobytes() if ids.dtype.kind in "iu" else "\0".join(ids).encode()
        digest.update(id_bytes)
        digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def rows_fingerprint(rows: RowSource, column: str) -> str:
    """Return the fingerprint of raw rows: their manifest's where they are Parquet files, else of ids and one column."""
    manifest = getattr(rows, "manifest", None)
    if manifest is not None:
        return manifest.fingerprint
    digest = sha256()
    for ids, batch in rows.row_batches(0, rows.num_rows, [column], BadRows()):
        digest.update("\0".join(map(str, ids.tolist())).encode())
        digest.update(batch.serialize())
    return digest.hexdigest()


def file_digest(path: str | None) -> str:
    """Return the SHA-256 of a file's contents; "" for None."""
    return "" if path is None else sha256(Path(path).read_bytes()).hexdigest()


def tensor_digest(*tensors: Tensor) -> str:
    """Return the SHA-256 of shapes and values."""
    digest = sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
