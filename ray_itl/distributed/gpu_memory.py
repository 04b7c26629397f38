"""How much GPU memory a shard gets, asked of a GPU of the cluster."""

from __future__ import annotations

import ray
import torch
from ray.exceptions import GetTimeoutError

from ray_itl.errors import ConfigError


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
