"""How much memory and disk a shard takes, what a user says about it, and how much memory this process may still take.

The first two are pure arithmetic; the last is what the machine has left, within the limit of its container.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ray_itl.core.messages import Precision
from ray_itl.core.screening.copies import copy_bytes
from ray_itl.core.screening.speed import may_pay
from ray_itl.shards.disk_copies import copies_bytes
from ray_itl.shards.disk_loading import CacheOptions, entry_bytes
from ray_itl.shards.loading import STORAGE_DTYPES

Storage = Literal["auto", "memory", "disk"]
Screening = Literal["auto"] | Precision
PROCESS_BYTES = 520 * 2**20
"""A process with Python, torch, pyarrow and Ray: measured 350 to 385 MiB, and 510 while it reads Parquet."""
_SPARE_BYTES = 64 * 2**20
_READ_AHEAD_BYTES = 64 * 2**20
STATE_BYTES = 33
"""What a shard knows of a row besides its features: an id, the squared norm, two scores, and whether it is picked."""
_MARGIN = 1.2
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_USAGE_AND_LIMIT = (
    ("memory.current", "memory.max", "memory.stat", "inactive_file"),
    ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


@dataclass(frozen=True)
class StorageOptions:
    """Where features are to be kept, and within which bounds."""

    storage: Storage = "memory"
    """auto: in memory if they fit, else on disk."""
    memory_per_shard: int | None = None
    """Bytes that the process of a shard may use; None: what the machine has."""
    cache_folder: str | None = None
    cache_limit: int | None = None
    state_bytes: int = STATE_BYTES
    """Bytes of a row besides its features: more where it has more scores, or costs."""
    screening: Screening = "float32"
    """auto: copies in int8 beside the rows if they fit, else none."""
    process_bytes: int = 0
    """What else is in the process of a shard: the model that embeds its rows."""
    least_rows: int | None = None
    """Rows from which on a process of its own pays, where rows are embedded; None: features say."""

    def copy_bytes(self, num_rows: int, dim: int) -> int:
        """Return the bytes of a copy that screening wants of each row of a pool."""
        if self.screening != "auto":
            return copy_bytes(self.screening, dim)
        return copy_bytes("int8", dim) if may_pay(num_rows, dim) else 0

    def cache(self, pool: str, copy_bytes: int) -> CacheOptions:
        """Return the cache for a pool of a fingerprint, and for copies of so many bytes a row (0: of none)."""
        return CacheOptions(pool, self.cache_folder, self.cache_limit, copy_bytes)

    def may_cache(self, num_rows: int, dim: int, dtype: str, copy_bytes: int) -> bool:
        """Whether what `disk_bytes` says is within the limit of the cache."""
        return self.cache_limit is None or self.disk_bytes(num_rows, dim, dtype, copy_bytes) <= self.cache_limit

    def disk_bytes(self, num_rows: int, dim: int, dtype: str, copy_bytes: int) -> int:
        """Return the disk that a shard takes in the cache, copies of so many bytes a row among it."""
        return entry_bytes(num_rows, dim, STORAGE_DTYPES[dtype]) + copies_bytes(num_rows, copy_bytes)


@dataclass(frozen=True)
class Footprint:
    """What a shard of n rows takes."""

    num_rows: int
    dim: int
    dtype: str
    """Storage dtype, a key of `STORAGE_DTYPES`."""
    state_bytes: int = STATE_BYTES
    """Bytes of a row besides its features."""

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features alone."""
        return self.num_rows * self.dim * STORAGE_DTYPES[self.dtype].itemsize

    @property
    def gpu_bytes(self) -> int:
        """Bytes of GPU memory for features and state, with a margin for what passes need."""
        return int(_MARGIN * (self.feature_bytes + self.num_rows * self.state_bytes)) + _SPARE_BYTES

    def memory(self, features_elsewhere: bool) -> int:
        """Return the bytes of main memory for rows and state (not the bare process), with a margin."""
        if features_elsewhere:
            return int(_MARGIN * self.num_rows * self.state_bytes) + _SPARE_BYTES + _READ_AHEAD_BYTES
        return int(_MARGIN * (self.feature_bytes + self.num_rows * self.state_bytes)) + _SPARE_BYTES


def available_memory() -> int:
    """Return bytes; where the system does not tell what is left, all of the machine's memory."""
    return max(0, min([_machine(), *_container()]))


def _machine() -> int:
    for line in _lines(_MEMINFO):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container() -> list[int]:
    """Return what a control group leaves, if it limits memory; cached files can be given up and do not count."""
    left = []
    for usage, limit, statistics, cached in _USAGE_AND_LIMIT:
        numbers = [int(line) for name in (usage, limit) for line in _lines(_CGROUP / name) if line.isdigit()]
        if len(numbers) == 2:
            stat = dict(line.split() for line in _lines(_CGROUP / statistics) if len(line.split()) == 2)
            left.append(numbers[1] - numbers[0] + int(stat.get(cached, 0)))
    return left


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
