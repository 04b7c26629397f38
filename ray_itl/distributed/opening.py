"""Planning the shards of a pool for the connected cluster, and opening the pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray_itl.cluster.head import can_grow
from ray_itl.cluster.nodes import free_nodes, gpu_memory, living_nodes
from ray_itl.cluster.room import RoomAsked
from ray_itl.cluster.waiting import Tell, await_room
from ray_itl.core.features import FeatureMap
from ray_itl.distributed.placement import Group, ShardPlan, check_fits, plan_within_free
from ray_itl.distributed.policy import RecoveryPolicy
from ray_itl.distributed.ray_pool import REMEDY, RayPool
from ray_itl.distributed.relay import PassTime
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.shards.footprint import StorageOptions
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import CostGroupColumns
from ray_itl.sources.parquet import ParquetSource

_SETTLE_S = 3.0
"""For so long, what has just ended may still be counted as held."""


@contextmanager
def open_ray_pool(
    source: PoolSource,
    feature_map: FeatureMap,
    dtype: str,
    options: ClusterSettings,
    notify: Callable[[str], None] | None = None,
    on_pass: Callable[[list[PassTime]], None] | None = None,
    storage: StorageOptions | None = None,
    cost_group_columns: CostGroupColumns | None = None,
    tell: Tell = lambda _: None,
    beside: Group | None = None,
) -> Iterator[RayPool]:
    """Plan shards for the cluster this process is connected to and yield their pool, on which to call `load` first.

    Args:
        source: Where the rows are; must be readable on every node.
        feature_map: Applied to every row.
        dtype: Storage dtype, a key of `STORAGE_DTYPES`.
        options: What the user asks for.
        notify: Told, in a line, about the shards and about every one that was lost.
        on_pass: See `RayPool`.
        storage: Where features are kept; None: in memory. On disk only those of a ParquetSource.
        cost_group_columns: Where rows' costs and groups come from; None: none are needed.
        tell: Told, in a line, that there is no room for shards yet; None: there is now.
        beside: Processes that are to have room beside the shards; None: none.

    Raises:
        ConfigError: the shards ask for more than the cluster's nodes have, or than a shard may use.
        NoRoomError: no GPU became free in time.
    """
    storage = storage or StorageOptions()
    dim = feature_map.dim(source.dim)
    plan = plan_for_cluster(source.num_rows, dim, dtype, options, storage, tell=tell, beside=beside)
    policy = RecoveryPolicy(restart_deadline_s=options.restart_deadline_s)
    cache = None
    if plan.on_disk and isinstance(source, ParquetSource):
        cache = storage.cache(source.manifest.fingerprint, plan.disk_copy_bytes)
    with RayPool(
        source,
        feature_map,
        plan,
        policy,
        notify=notify,
        on_pass=on_pass,
        cache=cache,
        cost_group_columns=cost_group_columns,
        tell=tell,
    ) as pool:
        if notify is not None:
            where = ", features on disk" if plan.on_disk else ""
            notify(f"shards: {pool.num_shards} (threads each: {plan.num_threads}, on {plan.device}{where})")
        yield pool


def plan_for_cluster(
    num_rows: int,
    dim: int,
    dtype: str,
    options: ClusterSettings,
    storage: StorageOptions,
    *,
    tell: Tell | None = None,
    beside: Group | None = None,
) -> ShardPlan:
    """Return a plan of shards that fits the cluster this process is connected to; see `plan_within_free`.

    Args:
        num_rows: N.
        dim: D, of the features.
        dtype: Storage dtype.
        options: What the user asks for.
        storage: Where features are to be kept.
        tell: Told what is waited for; None where nothing is to be waited for, nodes that may join among it.
        beside: See `plan_within_free`.

    Raises:
        ConfigError: the shards ask for more than the cluster's nodes have, or than a shard may use.
        NoRoomError: no GPU became free in time.
    """
    nodes, gpu_bytes = living_nodes(), None
    if options.gpus_per_shard > 0 and storage.storage == "auto" and any(node.get("GPU", 0) for node in nodes):
        await_room(_gpu_asked(options), tell or (lambda _: None), REMEDY)
        gpu_bytes = gpu_memory(options.gpus_per_shard, options.restart_deadline_s) - storage.process_bytes
    deadline = time.monotonic() + _SETTLE_S
    while True:
        plan = plan_within_free(num_rows, dim, dtype, nodes, free_nodes(), options, storage, gpu_bytes, beside)
        usual = plan_within_free(num_rows, dim, dtype, nodes, nodes, options, storage, gpu_bytes, beside)
        if plan == usual or time.monotonic() > deadline:
            break
        time.sleep(_SETTLE_S / 10)  # what has just ended is counted as free a moment later
    try:
        check_fits(plan, num_rows, dim, nodes)
    except ConfigError:
        if tell is None or not can_grow():
            raise
    return plan


def _gpu_asked(options: ClusterSettings) -> RoomAsked:
    needs = {"GPU": options.gpus_per_shard}
    return RoomAsked("shard", 1, needs, "cluster.restart_deadline_s", options.restart_deadline_s)
