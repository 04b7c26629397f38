"""What the nodes of the connected cluster have, what of it is free, and what of it this very process holds."""

from __future__ import annotations

from typing import Any

import ray
import torch
from ray._private import state
from ray.exceptions import GetTimeoutError

from ray_itl.errors import ConfigError


def living_nodes() -> list[dict[str, float]]:
    """Return the resources of every living node of the cluster by Ray's names ("CPU", "GPU", "memory" in bytes)."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def free_nodes() -> list[dict[str, float]]:
    """Return what of these resources nobody holds, as the head knew it a moment ago."""
    free = state.available_resources_per_node()  # the public function adds up the nodes
    return [dict(free.get(node["NodeID"], {})) for node in ray.nodes() if node["Alive"]]


def has_place(actor: Any) -> bool:
    """Whether an actor was given its place on a node; its process may still be starting there."""
    told = state.actors(actor._actor_id.hex())
    return not told or bool(told["Address"]["IPAddress"])


def held_by_this_actor() -> dict[str, float]:
    """Return what this process, if it is a Ray actor, holds for as long as it lives; tasks give back what they hold."""
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE or context.get_actor_id() is None:
        return {}
    return dict(context.get_assigned_resources())


def gpu_memory(gpus_per_shard: float, deadline_s: float) -> int:
    """Return the bytes free on one GPU of the cluster, or the share of them that a fraction of a GPU stands for.

    Raises:
        ConfigError: no such GPU became free within the deadline.
    """
    ask = ray.remote(num_cpus=0, num_gpus=gpus_per_shard, max_calls=1)(_free_bytes)
    answer = ask.remote()
    try:
        return int(min(1.0, gpus_per_shard) * ray.get(answer, timeout=deadline_s))
    except GetTimeoutError as error:
        ray.cancel(answer, force=True)
        raise ConfigError(
            f"cluster.gpus_per_shard={gpus_per_shard:g}, but no such GPU became free within "
            f"cluster.restart_deadline_s={deadline_s:g} seconds: free one, or raise it"
        ) from error


def _free_bytes() -> int:
    return torch.cuda.mem_get_info()[0]
