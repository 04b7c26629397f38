"""Further nodes of a Ray head, all on this machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults import processes
from tests.jobs.head import BIN, Head, free_ports

_START_S = 60.0


@contextmanager
def node(head: Head, **variables: str) -> Iterator[int]:
    """A node with one CPU for the length of a `with` block; yields the process above its raylet."""
    before = _num_nodes(head)
    agent, metrics = free_ports(2)
    command = [
        *(str(BIN / "ray"), "start", "--block", f"--address={head.gcs}", "--num-cpus=1", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--object-store-memory={100 * 2**20}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
    ]
    process = subprocess.Popen(
        command, env=head.environment | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _START_S
        while _num_nodes(head) <= before:
            assert time.monotonic() < deadline, "a node does not start"
            assert process.poll() is None, "a node ended at once"
            time.sleep(0.2)
        yield process.pid
    finally:
        processes.kill([*processes.descendants(process.pid), process.pid])
        process.wait()
        deadline = time.monotonic() + _START_S
        while _num_nodes(head) > before and time.monotonic() < deadline:
            time.sleep(0.2)


def _num_nodes(head: Head) -> int:
    """Return how many nodes are alive, as the head knows."""
    nodes = head.get("/api/v0/nodes")["data"]["result"]["result"]
    return sum(node["state"] == "ALIVE" for node in nodes)
