"""A selection on nodes (on this machine) of which one joins late and one is lost on the way; run by a test.

Each time there is one node too few for the shards: that is said, and they go on once it is there.
"""

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
from ray_itl.core.features import Identity
from ray_itl.distributed.opening import open_ray_pool
from ray_itl.distributed.settings import ClusterSettings
from tests.distributed.helpers import local_pool, make_rows, picked, select, write_rows

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
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=store) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address)
    source, rule, lost = write_rows(folder, make_rows(1500)), InformationGain(0.1), []
    told: list[str | None] = []

    def lose_a_node(progress) -> None:
        if progress.num_picked >= 6 and not lost:
            lost.append(nodes[0])
            cluster.remove_node(nodes[0], allow_graceful=False)

    def help_out(line: str | None) -> None:
        """Add a node once it is said that one is missing, and no sooner."""
        told.append(line)
        if line is not None and len(nodes) - len(lost) < 3:
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=store))

    settings = ClusterSettings(num_shards=3, cpus_per_shard=0.6)  # each needs a node of its own
    with open_ray_pool(source, Identity(), "float32", settings, tell=help_out) as pool:
        pool.load()
        assert "3 shards need 0.6 CPUs" in told[0], told
        assert told[-1] is None, told
        waits = len(told)
        result = select(pool, rule, on_progress=lose_a_node)
        assert pool.rebuilds >= 1
    assert lost
    assert "1 shard needs 0.6 CPUs" in told[waits], told
    assert told[-1] is None, told
    assert picked(result) == picked(select(local_pool(source), rule))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
