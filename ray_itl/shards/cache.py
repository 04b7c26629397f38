"""The folder on a node in which shards keep features that do not fit memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ray_itl.errors import ConfigError
from ray_itl.io.cache import CacheKey, EntryCache, EntryLease, default_cache_root
from ray_itl.text import format_size


@dataclass(frozen=True)
class EntryKey(CacheKey):
    """What an entry holds: features of equal keys are equal, bit for bit."""

    pool: str
    """Fingerprint of the pool."""
    start: int
    stop: int
    """Rows [start, stop) of the pool."""
    feature_map: str
    dtype: str
    torch: str
    """Version of the library that computed the features."""


class ShardCache(EntryCache):
    """See `EntryCache`."""

    def __init__(self, folder: str | Path | None = None, limit_bytes: int | None = None) -> None:
        """Name the folder; None: `shards` in the default cache folder. See `EntryCache`."""
        where = Path(folder).expanduser().absolute() if folder else default_cache_root() / "shards"
        remedy = "set cluster.cache_dir to a larger disk that can be written, "
        remedy += "raise cluster.cache_limit, or set pool.storage=memory"
        super().__init__(where, remedy, limit_bytes, "cluster.cache_limit")

    def begin(self, key: CacheKey, size: int) -> EntryLease:
        """See `EntryCache`; ConfigError where the limit is smaller than the entry."""
        self.check_limit(size)
        return super().begin(key, size)

    def check_limit(self, size: int) -> None:
        """Raise ConfigError where the limit is smaller than one entry of `size` bytes."""
        if self._limit is not None and size > self._limit:
            raise ConfigError(
                f"cluster.cache_limit={format_size(self._limit)}, but one shard's features take {format_size(size)}: "
                "raise it, or choose a smaller pool.dtype or more shards (cluster.num_shards)"
            )

    def check_room(self, size: int) -> None:
        """See `EntryCache`; ConfigError as for `begin`."""
        self.check_limit(size)
        super().check_room(size)
