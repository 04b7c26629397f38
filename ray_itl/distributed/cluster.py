"""Connecting to Ray: a cluster in this process, the one a job runs on, or one that the caller has already.

Also what its nodes and GPUs hold, and a cluster of several nodes that are processes of this machine, for tests and
benchmarks.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
import torch
from ray.cluster_utils import Cluster
from ray.exceptions import GetTimeoutError

from ray_itl.errors import ConfigError

_REACH_S = 10.0


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
    namespace: str | None = None,
) -> Iterator[None]:
    """Connect to Ray for the length of a `with` block; on leaving, end only what was begun here.

    A connection that the caller already has is used and left alone. Otherwise an address (or RAY_ADDRESS, which
    `ray job submit` sets) is connected to, and without one an embedded cluster is started on this machine, reachable
    only with a token that lives in this process's environment and is never written to a file.

    Args:
        address: "auto", "host:port", "ray://..." or "local" (an embedded cluster even where RAY_ADDRESS is set).
        num_cpus: CPUs of an embedded cluster; None for all of this machine.
        object_store_bytes: Shared memory of an embedded cluster; None leaves it to Ray.
        namespace: Namespace of named actors.

    Raises:
        ConfigError: nothing answers at the address, or an option does not apply.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    embedded = address == "local"
    if not embedded and (num_cpus is not None or object_store_bytes is not None):
        raise ConfigError(f"num_cpus and object_store_bytes are not for cluster.address={address}")
    try:
        if embedded:
            _start_embedded(num_cpus, object_store_bytes, namespace)
        else:
            _connect(address, namespace)
        yield
    finally:
        ray.shutdown()


def _start_embedded(num_cpus: int | None, object_store_bytes: int | None, namespace: str | None) -> None:
    ensure_token()
    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=object_store_bytes,
        namespace=namespace,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


def _connect(address: str, namespace: str | None) -> None:
    try:
        _check_reachable(address)
        ray.init(address=address, namespace=namespace, log_to_driver=False)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster answers at cluster.address={address} ({str(error).splitlines()[0]}): start one with "
            "`ray start --head`, correct the address (or RAY_ADDRESS), or use cluster.address=local"
        ) from error


def _check_reachable(address: str) -> None:
    """OSError if nothing listens at a "host:port"; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def ensure_token() -> None:
    """Give the embedded cluster a secret, without which anyone on the network could run code in it.

    Left to itself Ray writes one to a file in the home folder that every user of the machine can read. Ray reads
    token and mode once for each process, so they stay in the environment.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode == "token" and not given and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def living_nodes() -> list[dict[str, float]]:
    """Return the resources of every living node of the cluster by Ray's names ("CPU", "GPU", "memory" in bytes)."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


_STORE_BYTES = 100 * 2**20


@contextmanager
def simulated_cluster(num_nodes: int, cpus_per_node: float) -> Iterator[None]:
    """Start a cluster for the length of a `with` block and connect to it; shards find place on its nodes only.

    Raises:
        ConfigError: this process is connected to Ray already.
    """
    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already, and so cannot simulate another cluster")
    ensure_token()
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(num_nodes):
            cluster.add_node(num_cpus=cpus_per_node, object_store_memory=_STORE_BYTES)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


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
