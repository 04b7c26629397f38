"""A pool in this process that loads its own rows, and loads them again when asked."""

from __future__ import annotations

from collections.abc import Callable

from ray_itl.core.features import FeatureMap
from ray_itl.core.pool import LocalPool
from ray_itl.core.shard import PoolShard
from ray_itl.shards.loading import STORAGE_DTYPES, RowRange
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.manifest import plan_shards


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
