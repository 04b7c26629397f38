"""Options of where the shards run. No result depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray_itl.options.checks import auto_or_whole, number_at_least, positive, size
from ray_itl.options.declare import Options, option


@dataclass
class ClusterSettings(Options, group="cluster"):
    """Where the shards of the pool run."""

    num_shards: Any = option(
        "auto",
        "A number of Ray actors; auto: by the cluster's free CPUs or GPUs and the pool's size; 0: in this process, "
        "without Ray.",
        auto_or_whole,
        decides=False,
    )
    address: str | None = option(
        None,
        "A Ray cluster to connect to. null: the one this job runs on, else a Ray of its own on this machine.",
        decides=False,
    )
    cpus_per_shard: float | None = option(
        None,
        "CPUs a shard reserves; a fraction leaves room for Ray Data and Train. null: by the cluster.",
        number_at_least(0),
        decides=False,
    )
    gpus_per_shard: float = option(
        0.0, "GPUs a shard reserves; above 0, features live on the GPU.", number_at_least(0), decides=False
    )
    restart_deadline_s: float = option(
        300.0,
        "Seconds that shards may wait for room on the cluster, and a lost one to come back, before the run gives up "
        "(and can be resumed).",
        positive.said("give seconds > 0"),
        decides=False,
    )
    memory_per_shard: str | None = option(
        None,
        "Memory that the process of a shard may use, like 2GiB. null: what the machines have.",
        size,
        decides=False,
    )
    cache_dir: str | None = option(
        None,
        "Folder on each shard's machine for features on disk (pool.storage=disk). null: $RAY_ITL_CACHE/shards, else "
        "~/.cache/ray_itl/shards.",
        decides=False,
    )
    cache_limit: str | None = option(
        None,
        "Size that all that is kept there may have, like 500GiB. null: a tenth of the disk stays free.",
        size,
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if isinstance(self.num_shards, str) and self.num_shards.isdigit():
            self.num_shards = int(self.num_shards)
        super().__post_init__()
