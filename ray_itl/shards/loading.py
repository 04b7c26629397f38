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

from ray_itl.core.feature_store import FeatureStore, MemoryFeatures
from ray_itl.core.features import FeatureMap
from ray_itl.core.linalg import squared_norms
from ray_itl.core.pool import LocalPool
from ray_itl.core.shard import PoolShard
from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows, Notes
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

    def load(
        self,
        device: str | torch.device = "cpu",
        on_rows: Callable[[int], None] | None = None,
        bad: BadRows | None = None,
    ) -> PoolShard:
        """Return the rows as a shard in memory.

        Args:
            device: Where the features live.
            on_rows: See `read`.
            bad: See `shard`.

        Raises:
            InputError: as of `read` and `shard`.
        """
        tensor, found = torch.empty(self.num_rows, self.dim, dtype=self.dtype, device=device), BadRows()
        facts = self.read(tensor.__setitem__, on_rows, found)
        return self.shard(MemoryFeatures(tensor), facts, found, bad)

    def shard(self, features: FeatureStore, facts: RowFacts, found: BadRows, bad: BadRows | None) -> PoolShard:
        """Return the shard of rows that were read, with their costs and groups where they are needed.

        Args:
            features: Of the rows, zero where they are bad.
            facts: Of the rows.
            found: Bad rows so far; rows of bad costs join them.
            bad: Where bad rows are noted, for a caller that excludes them from what is picked. None: there may be none.

        Raises:
            BadRowsError: there are, and no `bad` (names them).
        """
        spec, costs_and_groups = self.cost_group_columns, None
        if spec is not None:
            costs_and_groups = read_costs_and_groups(self.source, spec, self.start, self.stop, found)
        if bad is not None:
            bad.extend(found)
        elif len(found):
            raise found.refusal(self.source.locate)
        unusable = found.positions - self.start
        return PoolShard(features, facts.ids, self.start, facts.norms, costs_and_groups, unusable)

    def read(
        self, put: Callable[[slice, Tensor], None], on_rows: Callable[[int], None] | None, bad: BadRows
    ) -> RowFacts:
        """Read all rows, in order.

        Args:
            put: Told which of the rows have come (counted from 0), and their features, on the CPU, zero for bad rows.
            on_rows: Told the number of rows read so far, after every batch.
            bad: Collects bad rows, and those with a feature too large for the storage dtype.

        Raises:
            InputError: files that cannot be read.
        """
        ids = np.empty(self.num_rows, dtype=id_dtype(self.source.id_kind))
        facts = RowFacts(ids, torch.empty(self.num_rows, dtype=torch.float64))
        filled = 0
        for batch_ids, batch in self.source.batches(self.start, self.stop, bad):
            features = map_rows(self.feature_map, batch).to(self.dtype)
            sound = torch.isfinite(features).all(dim=1)
            if not bool(sound.all()):
                too_large = np.flatnonzero(~sound.numpy() & np.isfinite(batch).all(axis=1))
                words = dict.fromkeys(too_large.tolist(), _overflow(self.dtype))
                Notes(bad, self.start + filled).add_all(words, batch_ids)
                features[~sound] = 0.0
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
        bad: BadRows | None = None,
    ) -> None:
        """Load all rows.

        Args:
            source: Where the rows are.
            feature_map: Applied to every row.
            dtype: Storage dtype, a key of `STORAGE_DTYPES`.
            num_shards: Shards to split the rows into.
            on_rows: Told how many rows are loaded so far, after every batch.
            bad: Where bad rows are noted, for a caller that excludes them from what is picked. None: there may be none.

        Raises:
            InputError: unreadable or bad rows, by file and row: all bad ones that there are.
        """
        self._feature_map, self._dtype, self._wanted_shards = feature_map, STORAGE_DTYPES[dtype], num_shards
        super().__init__(self._load(source, on_rows, bad))

    def reload(
        self, source: PoolSource, on_rows: Callable[[int], None] | None = None, bad: BadRows | None = None
    ) -> None:
        """Load the rows of another source in place of the present ones; call `restore` before anything else.

        Raises:
            InputError: unreadable or bad rows, by file and row; the pool is then of no more use.
        """
        self.replace(lambda: self._load(source, on_rows, bad))

    def _load(self, source: PoolSource, on_rows: Callable[[int], None] | None, bad: BadRows | None) -> list[PoolShard]:
        report, found = on_rows or (lambda _: None), BadRows()
        shards = [
            RowRange(source, r.start, r.stop, self._feature_map, self._dtype).load(
                on_rows=lambda rows, r=r: report(r.start + rows), bad=found
            )
            for r in plan_shards(source.num_rows, self._wanted_shards)
        ]
        if bad is not None:
            bad.extend(found)
        elif len(found):
            raise found.refusal(source.locate)
        return shards


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


def _overflow(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    remedy = "scale the embeddings" if dtype == torch.float64 else "set pool.dtype=float32 (or float64)"
    return f"a feature is too large for {name}; {remedy}, or pool.features=unit_norm"
