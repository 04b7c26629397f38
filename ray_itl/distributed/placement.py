"""How many shards, and what each asks of the cluster. Pure: node resources in, a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ray_itl.errors import ConfigError
from ray_itl.io.loading import STORAGE_DTYPES

_MIN_SHARD_BYTES = 128 * 2**20
_SPARE_BYTES = 64 * 2**20
_STATE_BYTES = 33
_MAX_THREADS = 4
_MAX_SHARDS = 256


class ClusterOptions(Protocol):
    """What a user may say about shards (the settings of a run)."""

    @property
    def num_shards(self) -> Any:
        """A number, or "auto"."""
        ...

    @property
    def cpus_per_shard(self) -> float | None:
        """CPUs a shard reserves; None leaves it to the plan."""
        ...

    @property
    def gpus_per_shard(self) -> float:
        """GPUs a shard reserves; above 0 its features live on the GPU."""
        ...

    @property
    def restart_deadline_s(self) -> float:
        """Seconds a lost shard may take to come back."""
        ...


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

    @property
    def device(self) -> str:
        """Where features live."""
        return "cuda" if self.num_gpus > 0 else "cpu"

    def memory(self, num_rows: int, dim: int) -> int:
        """Return the bytes of main memory that a shard of so many rows is said to need."""
        features = 0 if self.num_gpus > 0 else dim * STORAGE_DTYPES[self.dtype].itemsize
        return int(1.2 * num_rows * (features + _STATE_BYTES)) + _SPARE_BYTES


def plan_shards_for(
    num_rows: int, dim: int, dtype: str, nodes: Sequence[Mapping[str, float]], options: ClusterOptions
) -> ShardPlan:
    """Fill in what the options leave open from the cluster's nodes and the size of the pool.

    A small pool is one shard. Otherwise there is a shard for every 4 CPUs (or, with gpus_per_shard, as many as the
    GPUs hold), as long as each has at least 128 MiB of rows. Threads share out the CPUs, 4 to a shard at most.

    Args:
        num_rows: N.
        dim: D, of the features.
        dtype: Storage dtype.
        nodes: Resources of every node by Ray's names ("CPU", "GPU", "memory"), at least one node.
        options: What the user asks for.
    """
    cpus = [node["CPU"] for node in nodes if node.get("CPU", 0) >= 1] or [1]
    gpus, total_cpus = options.gpus_per_shard, int(sum(cpus))
    num_shards = options.num_shards
    if num_shards == "auto":
        step = options.cpus_per_shard or min(_MAX_THREADS, *cpus)
        places = sum(_places(node, {"GPU": gpus} if gpus else {"CPU": step}) for node in nodes)
        wanted = -(-num_rows * dim * STORAGE_DTYPES[dtype].itemsize // _MIN_SHARD_BYTES)
        num_shards = max(1, min(places, wanted, _MAX_SHARDS))
    threads = max(1, min(_MAX_THREADS, int(min(cpus)), total_cpus // num_shards))
    if options.cpus_per_shard is not None:
        threads = max(threads, int(options.cpus_per_shard))
    num_cpus = threads / 2 if options.cpus_per_shard is None else options.cpus_per_shard
    return ShardPlan(num_shards, threads, num_cpus, gpus, dtype)


def check_fits(plan: ShardPlan, num_rows: int, dim: int, nodes: Sequence[Mapping[str, float]]) -> None:
    """Check that the cluster's nodes, were they idle, have room for every shard.

    Args:
        plan: The shards.
        num_rows: N.
        dim: D, of the features.
        nodes: Resources of every node, as in `plan_shards_for`.

    Raises:
        ConfigError: names the option that asks for too much.
    """
    needs: dict[str, tuple[float, str]] = {
        "CPU": (plan.num_cpus, "cluster.cpus_per_shard"),
        "GPU": (plan.num_gpus, "cluster.gpus_per_shard"),
        "memory": (plan.memory(-(-num_rows // plan.num_shards), dim), "cluster.num_shards"),
    }
    for name, (need, option) in needs.items():
        most = max(node.get(name, 0) for node in nodes)
        if need > most:
            raise ConfigError(_too_much(name, need, most, option, plan))
    amounts = {name: need for name, (need, _) in needs.items()}
    places = sum(_places(node, amounts) for node in nodes)
    if places < plan.num_shards:
        raise ConfigError(
            f"cluster.num_shards={plan.num_shards}, but the cluster has room for {places} shards of {plan.num_cpus:g} "
            f"CPUs, {plan.num_gpus:g} GPUs and {_gib(needs['memory'][0])} of memory: add nodes, or lower "
            "cluster.num_shards, cluster.cpus_per_shard or cluster.gpus_per_shard"
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


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
