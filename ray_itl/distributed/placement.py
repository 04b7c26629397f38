"""How many shards, and what each asks of the cluster. Pure: node resources in, a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_itl.core.features import FeatureMap
from ray_itl.errors import ConfigError
from ray_itl.io.loading import STORAGE_DTYPES
from ray_itl.io.source import PoolSource

_MIN_SHARD_BYTES = 128 * 2**20
_SPARE_BYTES = 64 * 2**20
_STATE_BYTES = 29
_MAX_THREADS = 4
_MAX_SHARDS = 256


@dataclass(frozen=True)
class ShardPlan:
    """Number of shards and what each of them uses.

    A shard computes with `num_threads` threads, but by default reserves half as many CPUs: shards rest while Ray
    Data or Ray Train work, and both would wait for ever if shards had reserved every CPU.
    """

    num_shards: int
    num_threads: int = 1
    num_cpus: float = 0.5
    num_gpus: float = 0.0
    dtype: str = "float32"
    """Storage dtype, a key of `STORAGE_DTYPES`."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.num_shards < 1:
            raise ConfigError(f"cluster.num_shards={self.num_shards}: must be 1 or more")
        if self.num_threads < 1:
            raise ConfigError(f"cluster.num_threads={self.num_threads}: must be 1 or more")
        if self.num_cpus < 0 or self.num_gpus < 0:
            raise ConfigError("cluster.num_cpus and cluster.num_gpus must be 0 or more")
        if self.dtype not in STORAGE_DTYPES:
            raise ConfigError(f"pool.dtype={self.dtype!r}: must be one of {', '.join(STORAGE_DTYPES)}")

    def memory(self, num_rows: int, dim: int) -> int:
        """Return the bytes of main memory that a shard of so many rows is said to need."""
        return int(1.2 * num_rows * row_bytes(dim, self.dtype, self.device)) + _SPARE_BYTES


def row_bytes(dim: int, dtype: str, device: str = "cpu") -> int:
    """Return bytes of main memory a row takes in a shard; on a GPU the features are not in main memory."""
    features = dim * STORAGE_DTYPES[dtype].itemsize if device == "cpu" else 0
    return features + _STATE_BYTES


def plan_for(
    source: PoolSource,
    feature_map: FeatureMap,
    nodes: Sequence[Mapping[str, float]],
    *,
    num_shards: int | None = None,
    num_threads: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> ShardPlan:
    """Fill in what was left open (None) from the cluster's nodes and the size of the pool.

    A small pool is one shard. Otherwise shards have up to 4 threads (one GPU each on `device="cuda"`), at least
    128 MiB of rows, and together as many threads as the cluster has CPUs.

    Args:
        source: The pool.
        feature_map: Gives the dimension.
        nodes: Resources of every node by Ray's names ("CPU", "GPU", "memory"), at least one node.
        num_shards: Number of shards.
        num_threads: Threads of a shard.
        num_cpus: CPUs a shard reserves; may be a fraction.
        num_gpus: GPUs a shard reserves; may be a fraction.
        dtype: Storage dtype.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: an option out of range.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    on_gpu = device != "cpu"
    threads = num_threads or (1 if on_gpu else min([_MAX_THREADS, *cpus]))
    if num_shards is None:
        places = gpus if on_gpu else sum(cpus) // threads
        wanted = -(-source.num_rows * row_bytes(feature_map.dim(source.dim), dtype) // _MIN_SHARD_BYTES)
        num_shards = max(1, min(places, wanted, _MAX_SHARDS))
    return ShardPlan(
        num_shards=num_shards,
        num_threads=threads,
        num_cpus=threads / 2 if num_cpus is None else num_cpus,
        num_gpus=float(on_gpu) if num_gpus is None else num_gpus,
        dtype=dtype,
        device=device,
    )


def check_fits(plan: ShardPlan, num_rows: int, dim: int, nodes: Sequence[Mapping[str, float]]) -> None:
    """Check that the cluster's nodes, were they idle, have room for every shard.

    Args:
        plan: The shards.
        num_rows: N.
        dim: D, of the features.
        nodes: Resources of every node, as in `plan_for`.

    Raises:
        ConfigError: names the option that asks for too much.
    """
    needs: dict[str, tuple[float, str]] = {
        "CPU": (plan.num_cpus, "cluster.num_cpus"),
        "GPU": (plan.num_gpus, "cluster.num_gpus"),
        "memory": (plan.memory(-(-num_rows // plan.num_shards), dim), "cluster.num_shards"),
    }
    for name, (need, option) in needs.items():
        most = max(node.get(name, 0) for node in nodes)
        if need > most:
            raise ConfigError(_too_much(name, need, most, option, plan))
    places = sum(_places(node, {name: need for name, (need, _) in needs.items()}) for node in nodes)
    if places < plan.num_shards:
        raise ConfigError(
            f"cluster.num_shards={plan.num_shards}, but the cluster has room for {places} shards of {plan.num_cpus:g} "
            f"CPUs, {plan.num_gpus:g} GPUs and {_gib(needs['memory'][0])} of memory: add nodes, or lower "
            "cluster.num_shards, cluster.num_cpus or cluster.num_gpus"
        )


def _places(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    return min((int(node.get(name, 0) / need + 1e-9) for name, need in needs.items() if need > 0), default=0)


def _too_much(name: str, need: float, most: float, option: str, plan: ShardPlan) -> str:
    if name == "memory":
        return (
            f"{option}={plan.num_shards} makes shards of {_gib(need)} of memory, but the largest node has "
            f"{_gib(most)}: raise {option}, choose a smaller pool.dtype, or add larger nodes"
        )
    return f"{option}={need:g} for each shard, but the largest node has {most:g}: lower it or add larger nodes"


def _gib(num_bytes: Any) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
