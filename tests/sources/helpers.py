"""Small Parquet pools for the tests of the readers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.parquet import ParquetSource

LIST_KINDS = ("fixed", "list", "large_list", "tensor")


def embedding_array(rows: np.ndarray, kind: str = "fixed") -> pa.Array:
    """Return a matrix as an Arrow column of one of LIST_KINDS."""
    dim = rows.shape[1]
    values = pa.array(rows.reshape(-1))
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, dim)
    if kind == "tensor":
        storage = pa.FixedSizeListArray.from_arrays(values, dim)
        return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(values.type, (dim,)), storage)
    offsets = np.arange(len(rows) + 1) * dim
    if kind == "list":
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)


def random_rows(num_rows: int, dim: int = 3, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_rows, dim)).astype(dtype)


def pool_table(rows: np.ndarray, first_id: int = 0, kind: str = "fixed") -> pa.Table:
    ids = np.arange(first_id, first_id + len(rows))
    return pa.table({"id": ids, "embedding": embedding_array(rows, kind), "text": [f"row {i}" for i in ids]})


def write_pool(folder: Path, counts: Sequence[int], row_group_size: int = 4, kind: str = "fixed") -> np.ndarray:
    """Write one file per count, ids counting on through them, and return all embeddings in order."""
    rows = random_rows(sum(counts))
    first = 0
    for number, count in enumerate(counts):
        table = pool_table(rows[first : first + count], first, kind)
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=row_group_size)
        first += count
    return rows


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_pool(folder: Path) -> ParquetSource:
    return ParquetSource(build_manifest([str(folder)], Asked("id", "embedding")))


def read_range(source, start: int, stop: int) -> tuple[list, np.ndarray]:
    """Return all ids and embeddings that `batches` yields, joined."""
    ids: list = []
    parts = [np.empty((0, source.dim), source.dtype)]
    for batch_ids, rows in source.batches(start, stop):
        assert len(batch_ids) == len(rows) > 0
        ids += batch_ids.tolist()
        parts.append(rows)
    return ids, np.concatenate(parts)
