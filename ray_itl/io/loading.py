"""Filling shards: stream rows of a source through the feature map straight into a shard's tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.features import FeatureMap
from ray_itl.core.shard import PoolShard
from ray_itl.errors import InputError
from ray_itl.io.source import PoolSource

STORAGE_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def load_shard(
    source: PoolSource,
    start: int,
    stop: int,
    feature_map: FeatureMap,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    on_rows: Callable[[int], None] | None = None,
) -> PoolShard:
    """Load rows [start, stop) of a source as a shard.

    Args:
        source: Where the rows are.
        start: First position.
        stop: One past the last position; at least one row.
        feature_map: Applied to every row in float64 before it is rounded to the storage dtype.
        dtype: Storage dtype. The rounded values are the pool: exactness is stated for them.
        device: Where the features live.
        on_rows: Told the number of rows read so far, after every batch.

    Raises:
        InputError: unreadable or bad rows, or a feature too large for the storage dtype (names file and row).
    """
    dim = feature_map.dim(source.dim)
    features = torch.empty(stop - start, dim, dtype=dtype, device=device)
    ids = np.empty(stop - start, dtype=np.int64 if source.id_kind == "int" else np.dtypes.StringDType())
    filled = 0
    for batch_ids, batch in source.batches(start, stop):
        rows = map_rows(feature_map, batch).to(dtype)
        if dtype != torch.float64 and not bool(torch.isfinite(rows).all()):
            bad = int(torch.nonzero(~torch.isfinite(rows).all(dim=1))[0])
            raise _overflow(source, start + filled + bad, dtype)
        features[filled : filled + len(rows)] = rows
        ids[filled : filled + len(rows)] = batch_ids
        filled += len(rows)
        if on_rows is not None:
            on_rows(filled)
    return PoolShard(features, ids, start)


def map_rows(feature_map: FeatureMap, rows: np.ndarray) -> Tensor:
    """Return the features (float64) of embedding rows (n x D numpy of any float type)."""
    return feature_map(torch.from_numpy(rows.astype(np.float64)))


def repeated_id_error(source: PoolSource, repeated: int | str, positions: np.ndarray) -> InputError:
    """Return the error for an id that stands at several positions."""
    files, rows = source.locate(positions[:2])
    where = " and ".join(f"{file or 'the pool'} row {row}" for file, row in zip(files, rows.tolist(), strict=True))
    return InputError(
        f"row id {repeated!r} occurs more than once ({where}); ids must be unique over the whole pool: "
        "remove the duplicate rows or choose another pool.id_column"
    )


def _overflow(source: PoolSource, position: int, dtype: torch.dtype) -> InputError:
    files, rows = source.locate(np.array([position]))
    name = str(dtype).removeprefix("torch.")
    return InputError(
        f"{files[0] or 'the pool'} row {rows[0]} has a feature too large for {name}: "
        "set pool.dtype=float32 (or float64), or pool.features=unit_norm"
    )
