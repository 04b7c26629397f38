"""Room that others hold is waited for aloud, in an actor not for ever, and a head that goes ends the run in a line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from ray_itl.api import select
from ray_itl.cluster.nodes import has_place
from ray_itl.cluster.room import RoomAsked
from ray_itl.cluster.waiting import await_room
from ray_itl.errors import ConfigError, NoRoomError
from tests.distributed.helpers import assert_no_process_left
from tests.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]
ROOT = Path(__file__).parents[2]


def asked(count: int, cpus: float, deadline_s: float) -> RoomAsked:
    return RoomAsked("shard", count, {"CPU": cpus}, "cluster.restart_deadline_s", deadline_s)


@ray.remote
class Holder:
    """Holds what it was given; may select."""

    def ready(self) -> bool:
        return True

    def select(self) -> str:
        rows = np.eye(4, dtype=np.float32)
        try:
            return str(select(rows, rows[:1], n=1, num_shards=1).ids)
        except ConfigError as error:
            return str(error)


def test_room_is_waited_for_until_it_is_there_or_the_deadline_passes():
    await_room(asked(4, 1.0, 60), pytest.fail, "wait")  # nothing to say where there is room
    holder: Any = Holder.options(num_cpus=3).remote()
    ray.get(holder.ready.remote())
    said: list[str | None] = []
    with pytest.raises(NoRoomError, match=r"restart_deadline_s=1 seconds: 2 shards need 1 CPU each.*hold 3.*or wait"):
        await_room(asked(2, 1.0, 1), said.append, "wait")
    with pytest.raises(ConfigError, match=r"5 shards need 1 CPU each, but the cluster has 4 CPUs in all"):
        await_room(asked(5, 1.0, 1), lambda _: None, "wait")

    def tell(line: str | None) -> None:
        said.append(line)
        ray.kill(holder)

    waiting: Any = Holder.options(num_cpus=2).remote()
    wait_until(lambda: not has_place(waiting), 60)
    ray.kill(waiting)
    await_room(asked(2, 1.0, 300), tell, "wait")
    assert said[-1] is None
    assert str(said[-2]).startswith("waiting for room on the cluster: 2 shards need 1 CPU each, but the cluster has")
    assert_no_process_left()


def test_selecting_in_an_actor_that_holds_every_cpu_is_refused_and_in_one_that_does_not_works():
    greedy: Any = Holder.options(num_cpus=4).remote()
    line = ray.get(greedy.select.remote(), timeout=300)
    assert "this process is an actor that holds 4 CPUs itself" in line
    assert "num_cpus=0" in line
    ray.kill(greedy)
    modest: Any = Holder.options(num_cpus=1).remote()
    assert ray.get(modest.select.remote(), timeout=300) == "[0]"
    ray.kill(modest)
    assert_no_process_left()


HEAD = """
import sys
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
server = ray._private.worker._global_node.all_processes["gcs_server"][0].process.pid
print(ray.get_runtime_context().gcs_address, server, flush=True)
sys.stdin.read()
"""


@pytest.mark.timeout(600)
def test_a_head_that_is_lost_ends_the_run_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "60"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    head = subprocess.Popen([sys.executable, "-c", HEAD], env=environment, **pipes)
    try:
        assert head.stdout is not None
        address, server = head.stdout.readline().split()
        command = [sys.executable, "-m", "tests.cluster.lost_head", address, str(tmp_path)]
        run = subprocess.Popen(command, env=environment, cwd=ROOT, **pipes)
        wait_until(lambda: (tmp_path / "loaded").exists() or run.poll() is not None, 300)
        os.kill(int(server), signal.SIGKILL)
        _, errors = run.communicate(timeout=300)
    finally:
        head.kill()
        head.communicate()
    assert run.returncode == 1, errors
    ours = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert ours == [
        "error: the head of the Ray cluster has not answered for 30 seconds: once there is a cluster, run the same "
        "command again to resume"
    ]
    assert "Traceback" not in errors
