"""A selection on a cluster of three nodes (on this machine) of which one is lost on the way; run by a test."""

import os
import secrets
import sys
from pathlib import Path

# Set before Ray is imported: Ray reads both once for each process.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import ray
from ray.cluster_utils import Cluster

from ray_itl.core.acquisitions.information_gain import InformationGain
from tests.distributed.helpers import local_pool, make_rows, picked, ray_pool, select, write_rows

FAST_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 10_000,  # a dead node refuses at once; one that is slow to answer is alive
    "health_check_failure_threshold": 3,
}


def main(folder: Path) -> None:
    store = 100 * 2**20
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": store, "_system_config": FAST_CHECKS}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=store) for _ in range(3)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address)
    source, rule, lost = write_rows(folder, make_rows(1500)), InformationGain(0.1), []

    def lose_a_node(progress) -> None:
        if progress.num_picked >= 6 and not lost:
            lost.append(nodes[0])
            cluster.remove_node(nodes[0], allow_graceful=False)

    with ray_pool(source, 3, num_cpus=0.5) as pool:
        pool.load()
        result = select(pool, rule, on_progress=lose_a_node)
        assert pool.rebuilds >= 1
    assert lost
    assert picked(result) == picked(select(local_pool(source), rule))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
