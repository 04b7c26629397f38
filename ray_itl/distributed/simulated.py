"""A cluster of several nodes that are processes of this machine: for tests and benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.cluster_utils import Cluster

from ray_itl.distributed.cluster import ensure_token
from ray_itl.errors import ConfigError

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
