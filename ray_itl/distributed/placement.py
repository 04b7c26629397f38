"""How many shards, and what each asks of the cluster. Pure: node resources in, a plan out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ray_itl.cluster.room import Nodes, amounts, fit_beside, places, places_on
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.screening.copies import UNIT_BYTES
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.shards.footprint import PROCESS_BYTES, STATE_BYTES, Footprint, StorageOptions
from ray_itl.shards.loading import STORAGE_DTYPES
from ray_itl.text import format_size, plural

_MIN_SHARD_BYTES = 128 * 2**20
_MAX_THREADS = 4
_MAX_SHARDS = 256
_LEAST_SHARE = 0.5
"""CPUs that a shard reserves at least, where it is this module that says how many."""
Group = tuple[int, dict[str, float]]
"""Processes of one kind: how many, and the needs of each by Ray's names."""


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
    on_disk: bool = False
    """Whether features are kept on the nodes' disks and streamed."""
    driver_bytes: int = 0
    """Memory that the driver takes in a shard's process; 0 where it has its own."""
    state_bytes: int = STATE_BYTES
    """Bytes of a row besides its features and its copy."""
    copy_bytes: int = 0
    """Bytes of the copy of a row by which it is screened; 0: rows are screened as they are."""
    copies_on_disk: bool = False
    """Whether copies are on disk, too; else in memory."""
    process_bytes: int = 0
    """What else is in the process of a shard."""

    @property
    def device(self) -> str:
        """Where features live, or are computed on."""
        return "cuda" if self.num_gpus > 0 else "cpu"

    def memory(self, num_rows: int, dim: int) -> int:
        """Return the bytes of main memory that a shard of so many rows is said to need."""
        rows = self.footprint(num_rows, dim).memory(self.on_disk or self.num_gpus > 0)
        return rows + self.driver_bytes + self.process_bytes

    def needs(self, num_rows: int, dim: int) -> dict[str, float]:
        """Return what a shard of so many rows asks of a node, by Ray's names."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory(num_rows, dim))}

    def footprint(self, num_rows: int, dim: int) -> Footprint:
        """Return what a shard of so many rows takes."""
        copy_bytes = UNIT_BYTES if self.copies_on_disk else self.copy_bytes
        return Footprint(num_rows, dim, self.dtype, self.state_bytes + copy_bytes)

    @property
    def disk_copy_bytes(self) -> int:
        """Bytes of the copy of a row on disk."""
        return self.copy_bytes if self.copies_on_disk else 0


def plan_shards_for(
    num_rows: int,
    dim: int,
    dtype: str,
    nodes: Nodes,
    options: ClusterSettings,
    storage: StorageOptions | None = None,
    gpu_bytes: int | None = None,
) -> ShardPlan:
    """Fill in what the options leave open from the cluster's nodes and the size of the pool.

    A small pool is one shard. Otherwise there is a shard for every 4 CPUs (or, with gpus_per_shard, as many as the
    GPUs hold), as long as each has at least 128 MiB of rows, or as many as pay where they are embedded. Threads share
    out the CPUs, 4 to a shard at most. With storage "auto", features that fit neither the nodes' memory nor the limit
    of a shard are kept on disk.

    Args:
        num_rows: N.
        dim: D, of the features.
        dtype: Storage dtype.
        nodes: Resources of every node by Ray's names ("CPU", "GPU", "memory"), at least one node.
        options: What the user asks for.
        storage: Where features are to be kept; None: in memory.
        gpu_bytes: GPU memory of a shard, where its features live on a GPU.

    Raises:
        ConfigError: more than cluster.memory_per_shard (names the option).
    """
    cpus = [node["CPU"] for node in nodes if node.get("CPU", 0) >= 1] or [1]
    gpus, total_cpus = options.gpus_per_shard, int(sum(cpus))
    num_shards, storage = options.num_shards, storage or StorageOptions()
    if num_shards == "auto":
        step = options.cpus_per_shard or min(_MAX_THREADS, *cpus)
        most = places_on(nodes, {"GPU": gpus} if gpus else {"CPU": step})
        wanted = -(-num_rows * dim * STORAGE_DTYPES[dtype].itemsize // _MIN_SHARD_BYTES)
        wanted = max(wanted, 0 if storage.least_rows is None else num_rows // storage.least_rows)
        num_shards = max(1, min(most, wanted, _MAX_SHARDS))
    threads = max(1, min(_MAX_THREADS, int(min(cpus)), total_cpus // num_shards))
    if options.cpus_per_shard is not None:
        threads = max(threads, int(options.cpus_per_shard))
    num_cpus = threads / 2 if options.cpus_per_shard is None else options.cpus_per_shard
    plan = ShardPlan(num_shards, threads, num_cpus, gpus, dtype, state_bytes=storage.state_bytes)
    plan = replace(plan, process_bytes=storage.process_bytes)
    return place_features(plan, num_rows, dim, storage, nodes, gpu_bytes)


def plan_in_process(
    num_rows: int, dim: int, dtype: str, num_threads: int, available: int, storage: StorageOptions
) -> ShardPlan:
    """Return the plan of one shard in a process that may take so many more bytes of memory, the driver's included.

    Raises:
        ConfigError: more than cluster.memory_per_shard or than there is (names the option).
    """
    driver_bytes = BlockSchedule().fit(dim, num_rows).driver_bytes(dim, num_rows, dtype)
    plan = ShardPlan(1, num_threads, dtype=dtype, driver_bytes=driver_bytes, state_bytes=storage.state_bytes)
    plan = place_features(plan, num_rows, dim, storage, [{"CPU": 1.0, "memory": float(available)}], None)
    need = plan.memory(num_rows, dim)
    if need > available:
        remedy = "use more machines (cluster.num_shards)" if plan.on_disk else "set pool.storage=auto"
        raise ConfigError(
            f"pool.storage={storage.storage} takes {format_size(need)} of memory in this process, but only "
            f"{format_size(available)} are free: {remedy}, or free some"
        )
    return plan


def place_features(
    plan: ShardPlan,
    num_rows: int,
    dim: int,
    storage: StorageOptions,
    nodes: Nodes,
    gpu_bytes: int | None,
) -> ShardPlan:
    """Return the plan with features in memory or on disk and copies of them or none, as asked for or as they fit.

    With "auto", from the fastest: rows and copies in memory, rows alone, copies in memory and rows on disk, copies on
    disk beside them, which are read once a pass, and last the rows themselves read once a pass.

    Raises:
        ConfigError: more than cluster.memory_per_shard (names the option).
    """
    rows, limit = -(-num_rows // plan.num_shards), storage.memory_per_shard

    def fits(plan: ShardPlan) -> bool:
        need = plan.memory(rows, dim)
        return (
            places_on(nodes, {"memory": need, "CPU": plan.num_cpus}) >= plan.num_shards
            and (limit is None or need + PROCESS_BYTES <= limit)
            and (gpu_bytes is None or plan.on_disk or plan.footprint(rows, dim).gpu_bytes <= gpu_bytes)
            and (not plan.copies_on_disk or storage.may_cache(rows, dim, plan.dtype, plan.disk_copy_bytes))
        )

    kept = {"memory": [False], "disk": [True], "auto": [False, True]}[storage.storage]
    copies = [storage.copy_bytes(num_rows, dim), *([0] if storage.screening == "auto" else [])]
    tiers = [
        replace(plan, on_disk=on_disk, copy_bytes=size, copies_on_disk=there)
        for on_disk in kept
        for size in copies
        for there in ([False, True] if on_disk and size else [False])
    ]
    plan = next((tier for tier in tiers if fits(tier)), tiers[-1])
    need = plan.memory(rows, dim) + PROCESS_BYTES
    if limit is not None and need > limit:
        remedy = "" if plan.on_disk else "set pool.storage=auto, "
        raise ConfigError(
            f"cluster.memory_per_shard={format_size(limit)}, but a shard of {rows:,} rows needs {format_size(need)} "
            f"with features {'on disk' if plan.on_disk else 'in memory'}: {remedy}raise it, or use more shards "
            "(cluster.num_shards)"
        )
    return plan


def plan_within_free(
    num_rows: int,
    dim: int,
    dtype: str,
    nodes: Nodes,
    free: Nodes,
    options: ClusterSettings,
    storage: StorageOptions | None = None,
    gpu_bytes: int | None = None,
    beside: Group | None = None,
) -> ShardPlan:
    """Plan as `plan_shards_for`, but within what is free now and beside processes that are to come.

    With cluster.num_shards=auto there are no more shards than find room now, and where not even one of the usual size
    does, there is one that reserves fewer CPUs. Where cluster.cpus_per_shard is not set, shards reserve what the
    others leave, down to nothing: they rest while the others work.

    Args:
        num_rows: N.
        dim: D, of the features.
        dtype: Storage dtype.
        nodes: As for `plan_shards_for`.
        free: What of it nobody holds, node by node.
        options: What the user asks for.
        storage: As for `plan_shards_for`.
        gpu_bytes: As for `plan_shards_for`.
        beside: Processes that are to run while the shards rest but live, how many and the needs of each; None: none.

    Raises:
        ConfigError: as for `plan_shards_for`.
    """

    def plan_of(count: int | str) -> ShardPlan:
        asked = replace(options, num_shards=count)
        plan = plan_shards_for(num_rows, dim, dtype, nodes, asked, storage, gpu_bytes)
        return (
            plan if beside is None or options.cpus_per_shard is not None else _beside(plan, needs(plan), nodes, beside)
        )

    def needs(plan: ShardPlan) -> dict[str, float]:
        return plan.needs(-(-num_rows // plan.num_shards), dim)

    plan = plan_of(options.num_shards)
    if options.num_shards != "auto":
        return plan
    for count in range(plan.num_shards, 0, -1):
        fewer = plan_of(count)
        whole = beside is None or fit_beside(nodes, [(count, needs(fewer)), beside])
        if whole and places_on(free, needs(fewer)) >= count:
            return fewer
    one = plan_of(1)
    if options.cpus_per_shard is not None:
        return one
    room = max((node.get("CPU", 0) for node in free if places(node, {**needs(one), "CPU": 0})), default=0)
    share = min(one.num_cpus, max(_LEAST_SHARE, int(room / _LEAST_SHARE) * _LEAST_SHARE))
    return replace(one, num_cpus=share, num_threads=max(1, min(one.num_threads, int(2 * share))))


def _beside(plan: ShardPlan, needs: dict[str, float], nodes: Nodes, beside: Group) -> ShardPlan:
    """Return the plan with as many CPUs for each shard as others leave on these nodes; none where that changes nothing.

    Where it does not fit even so, the plan stays as it is: `check_fits` says so.
    """
    for share in (plan.num_cpus, plan.num_cpus / 2, plan.num_cpus / 4, 0.0):
        if fit_beside(nodes, [(plan.num_shards, {**needs, "CPU": share}), beside]):
            return replace(plan, num_cpus=share)
    return plan


def check_fits(plan: ShardPlan, num_rows: int, dim: int, nodes: Nodes) -> None:
    """Check that the cluster's nodes, were they idle, have room for every shard.

    Args:
        plan: The shards.
        num_rows: N.
        dim: D, of the features.
        nodes: Resources of every node, as in `plan_shards_for`.

    Raises:
        ConfigError: names the option that asks for too much.
    """
    needs = plan.needs(-(-num_rows // plan.num_shards), dim)
    options = {"CPU": "cluster.cpus_per_shard", "GPU": "cluster.gpus_per_shard", "memory": "cluster.num_shards"}
    for name, need in needs.items():
        most = max((node.get(name, 0) for node in nodes), default=0)
        if need > most:
            raise ConfigError(_too_much(name, need, most, options[name], plan))
    room = places_on(nodes, needs)
    if room < plan.num_shards:
        raise ConfigError(
            f"cluster.num_shards={plan.num_shards}, but the cluster has room for {room} shards of {plan.num_cpus:g} "
            f"CPUs, {plan.num_gpus:g} GPUs and {format_size(needs['memory'])} of memory: add nodes, or lower "
            "cluster.num_shards, cluster.cpus_per_shard or cluster.gpus_per_shard"
        )


def check_fits_beside(shards: Group, workers: Group, nodes: Nodes) -> None:
    """Check that the cluster's nodes, were they idle, have room for shards and the workers of a trainer together.

    Args:
        shards: How many (0: they are not on the cluster), and the least needs of each.
        workers: How many, and the needs of each.
        nodes: Resources of every node.

    Raises:
        ConfigError: names the options.
    """
    if fit_beside(nodes, [shards, workers]):
        return
    count, needs = workers
    asks = f"trainer.num_workers={count} with trainer.cpus_per_worker={needs.get('CPU', 0):g}"
    asks += " and trainer.use_gpu=true" if needs.get("GPU") else ""
    has = amounts({name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")})
    own = f" beside this run's own {plural(shards[0], 'shard')} ({amounts(shards[1])} each)" if shards[0] else ""
    remedy = ", cluster.num_shards or cluster.cpus_per_shard" if shards[0] else ""
    raise ConfigError(
        f"{asks} need room{own}, but the cluster has {has} on {plural(len(nodes), 'node')}: add nodes, or lower "
        f"trainer.num_workers, trainer.cpus_per_worker{remedy}"
    )


def _too_much(name: str, need: float, most: float, option: str, plan: ShardPlan) -> str:
    if name == "memory":
        return (
            f"{option}={plan.num_shards} makes shards of {format_size(need)} of memory, but the largest node has "
            f"{format_size(most)}: raise {option}, choose a smaller pool.dtype or pool.storage=auto, or add larger "
            "nodes"
        )
    return f"{option}={need:g} for each shard, but the largest node has {most:g}: lower it or add larger nodes"
