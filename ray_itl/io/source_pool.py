"""A pool in this process that loads its own rows, and loads them again when asked."""

from __future__ import annotations

from collections.abc import Callable

from ray_itl.core.features import FeatureMap
from ray_itl.core.pool import LocalPool
from ray_itl.core.shard import PoolShard
from ray_itl.io.loading import STORAGE_DTYPES, load_shard
from ray_itl.io.manifest import plan_shards
from ray_itl.io.source import PoolSource


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
