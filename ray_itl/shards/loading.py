"""Filling shards: rows of a source stream through the feature map straight to where a shard keeps them.

`SourcePool` is a pool in this process that loads its own rows, and loads them again when asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.features import FeatureMap
from ray_itl.core.linalg import squared_norms
from ray_itl.core.pool import LocalPool
from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.core.shard import PoolShard
from ray_itl.errors import InputError
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import CostGroupColumns, read_costs_and_groups
from ray_itl.sources.ids import id_dtype
from ray_itl.sources.manifest import plan_shards

STORAGE_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class RowFacts(NamedTuple):
    """What a shard knows of its n rows besides their features."""

    ids: np.ndarray
    """n, int64, uint64 or StringDType."""
    norms: Tensor
    """|x|^2 of the rows as stored, n float64."""


@dataclass(frozen=True)
class RowRange:
    """Rows [start, stop) of a source, at least one, and how a shard holds them."""

    source: PoolSource
    start: int
    stop: int
    feature_map: FeatureMap
    """Applied to every row in float64 before it is rounded to the storage dtype."""
    dtype: torch.dtype
    """Storage dtype. The rounded values are the pool: exactness is stated for them."""
    cost_group_columns: CostGroupColumns | None = None
    """Where costs and groups come from; None: none are needed."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self.feature_map.dim(self.source.dim)

    def load(self, device: str | torch.device = "cpu", on_rows: Callable[[int], None] | None = None) -> PoolShard:
        """Return the rows as a shard in memory; errors as of `read`."""
        tensor = torch.empty(self.num_rows, self.dim, dtype=self.dtype, device=device)
        facts = self.read(tensor.__setitem__, on_rows)
        return PoolShard(MemoryFeatures(tensor), facts.ids, self.start, facts.norms, self.costs_and_groups())

    def costs_and_groups(self) -> CostsAndGroups | None:
        """Return the rows' costs and groups, if they are needed.

        Raises:
            InputError: a cost is bad (names file and row).
        """
        if self.cost_group_columns is None:
            return None
        return read_costs_and_groups(self.source, self.cost_group_columns, self.start, self.stop)

    def read(self, put: Callable[[slice, Tensor], None], on_rows: Callable[[int], None] | None) -> RowFacts:
        """Read all rows, in order.

        Args:
            put: Told which of the rows have come (counted from 0), and their features, on the CPU.
            on_rows: Told the number of rows read so far, after every batch.

        Raises:
            InputError: unreadable or bad rows, or a feature too large for the storage dtype (names file and row).
        """
        ids = np.empty(self.num_rows, dtype=id_dtype(self.source.id_kind))
        facts = RowFacts(ids, torch.empty(self.num_rows, dtype=torch.float64))
        filled = 0
        for batch_ids, batch in self.source.batches(self.start, self.stop):
            features = map_rows(self.feature_map, batch).to(self.dtype)
            if self.dtype != torch.float64 and not bool(torch.isfinite(features).all()):
                bad = int(torch.nonzero(~torch.isfinite(features).all(dim=1))[0])
                raise _overflow(self.source, self.start + filled + bad, self.dtype)
            rows = slice(filled, filled + len(features))
            put(rows, features)
            facts.ids[rows], facts.norms[rows] = batch_ids, squared_norms(features)
            filled = rows.stop
            if on_rows is not None:
                on_rows(filled)
        return facts


class SourcePool(LocalPool):
    """A LocalPool over the rows of a source: what RayPool is, without Ray."""

    def __init__(
        self,
        source: PoolSource,
        feature_map: FeatureMap,
        dtype: str = "float32",
        num_shards: int = 1,
        on_rows: Callable[[int], None] | None = None,
    ) -> None:
        """Load all rows.

        Args:
            source: Where the rows are.
            feature_map: Applied to every row.
            dtype: Storage dtype, a key of `STORAGE_DTYPES`.
            num_shards: Shards to split the rows into.
            on_rows: Told how many rows are loaded so far, after every batch.

        Raises:
            InputError: unreadable or bad rows, by file and row.
        """
        self._feature_map, self._dtype, self._wanted_shards = feature_map, STORAGE_DTYPES[dtype], num_shards
        super().__init__(self._load(source, on_rows))

    def reload(self, source: PoolSource, on_rows: Callable[[int], None] | None = None) -> None:
        """Load the rows of another source in place of the present ones; call `restore` before anything else.

        Raises:
            InputError: unreadable or bad rows, by file and row; the pool is then of no more use.
        """
        self.replace(lambda: self._load(source, on_rows))

    def _load(self, source: PoolSource, on_rows: Callable[[int], None] | None) -> list[PoolShard]:
        report = on_rows or (lambda _: None)
        return [
            load_shard(
                source,
                r.start,
                r.stop,
                self._feature_map,
                self._dtype,
                on_rows=lambda rows, r=r: report(r.start + rows),
            )
            for r in plan_shards(source.num_rows, self._wanted_shards)
        ]


def load_shard(
    source: PoolSource,
    start: int,
    stop: int,
    feature_map: FeatureMap,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    on_rows: Callable[[int], None] | None = None,
) -> PoolShard:
    """Load rows [start, stop) of a source as a shard in memory; see `RowRange`.

    Args:
        source: Where the rows are.
        start: First position.
        stop: One past the last position.
        feature_map: Applied to every row.
        dtype: Storage dtype.
        device: Where the features live.
        on_rows: Told the number of rows read so far, after every batch.

    Raises:
        InputError: unreadable or bad rows, or a feature too large for the storage dtype (names file and row).
    """
    return RowRange(source, start, stop, feature_map, dtype).load(device, on_rows)


def map_rows(feature_map: FeatureMap, rows: np.ndarray) -> Tensor:
    """Return the features (float64) of embedding rows (n x D numpy of any float type)."""
    return feature_map(torch.from_numpy(rows.astype(np.float64)))


def rows_as_stored(feature_map: FeatureMap, rows: np.ndarray, dtype: str) -> Tensor:
    """Return the features of embedding rows as shards hold them, rounded to a storage dtype, in float64."""
    return map_rows(feature_map, rows).to(STORAGE_DTYPES[dtype]).to(torch.float64)


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
