"""Options of the cluster: how many shards, what each may use, and how long to wait for one that was lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ray_itl.options import is_whole, require
from ray_itl.text import parse_size


@dataclass
class ClusterSettings:
    """Where the shards run."""

    num_shards: Any = "auto"
    """A number of Ray actors; auto: by the cluster's CPUs or GPUs and the pool's size; 0: in this process."""
    address: str | None = None
    """A Ray cluster to connect to. null: the one this job runs on, else a Ray of its own on this machine."""
    cpus_per_shard: float | None = None
    """CPUs a shard reserves; a fraction leaves room for Ray Data and Train. null: by the cluster."""
    gpus_per_shard: float = 0.0
    """GPUs a shard reserves; above 0, features live on the GPU."""
    restart_deadline_s: float = 300.0
    """How long a lost shard may take to come back before the run gives up (and can be resumed)."""
    memory_per_shard: str | None = None
    """Memory that the process of a shard may use, like 2GiB. null: what the machines have."""
    cache_dir: str | None = None
    """Folder on each shard's machine for features on disk. null: $RAY_ITL_CACHE/shards or ~/.cache/ray_itl/shards."""
    cache_limit: str | None = None
    """Size that all that is kept there may have, like 500GiB. null: a tenth of the disk stays free."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if isinstance(self.num_shards, str) and self.num_shards.isdigit():
            self.num_shards = int(self.num_shards)
        shards = self.num_shards
        require(
            shards == "auto" or is_whole(shards, 0), "cluster.num_shards", shards, "give auto or a whole number >= 0"
        )
        for option in ("cpus_per_shard", "gpus_per_shard", "restart_deadline_s"):
            value = getattr(self, option)
            unset = value is None and option == "cpus_per_shard"
            usable = unset or (isinstance(value, int | float) and 0 <= value < math.inf)
            require(usable, f"cluster.{option}", value, "give a number >= 0")
        for option in ("memory_per_shard", "cache_limit"):
            parse_size(f"cluster.{option}", getattr(self, option))
        require(self.restart_deadline_s > 0, "cluster.restart_deadline_s", self.restart_deadline_s, "give seconds > 0")
