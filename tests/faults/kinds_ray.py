"""Runs over Ray that lose their driver, a shard, a node, a raylet, or the memory of a node; and clusters that change.

The cluster is one head with two CPUs and nodes that cases add, all on this machine. A node is lost by SIGKILL of all
its processes, its raylet by SIGKILL of that alone. A node that is out of memory is one whose raylet takes any use of
memory for too much (RAY_memory_usage_threshold), so that Ray's own monitor kills every shard on it, as it does when
memory really runs out; a kill by the kernel is the same as a SIGKILL of the shard.
"""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

from tests.faults import processes
from tests.faults.bench import Bench
from tests.faults.case import Case, Outcome, finish_run
from tests.faults.cluster import node
from tests.faults.tries import Try, in_process, on_ray
from tests.faults.world import World

_CALLS_S = 0.3
"""Longest time from an operation of the driver to a fault: within it shards are called a few times."""
_SELECTING = (20, 180)
"""Operations of the driver on its run directory while shards are called, about."""


def killed_driver(case: Case, bench: Bench) -> Outcome:
    """SIGKILL of the driver of a run over the cluster."""
    world = bench.world.copy(case.folder / "world")
    run, shards = world.folder / "run", case.draw("shards", 1, 3)

    def again() -> Try:
        plan = None
        if not case.tries:
            at = case.draw("at", 1, bench.num_operations("run", batches=False))
            plan = case.plan(run, counts_batches=False, at=at, delay_s=case.seconds("delay", 0.3), action="kill_self")
        return on_ray(world.run(shards), case.folder, bench.environment, plan)

    case.add(again())
    return finish_run(case, run, bench.run, again)


def killed_shard(case: Case, bench: Bench) -> Outcome:
    """SIGKILL of a shard, which the run must survive."""
    return _struck_run(case, bench, "kill_shard", bench.nodes(), case.draw("shards", 1, 3))


def killed_node(case: Case, bench: Bench) -> Outcome:
    """SIGKILL of all processes of a node with a shard on it."""
    with node(bench.head) as lost:
        return _struck_run(case, bench, "kill_tree", [lost], 4)


def killed_raylet(case: Case, bench: Bench) -> Outcome:
    """SIGKILL of the raylet of a node with a shard on it."""
    with node(bench.head) as lost:
        return _struck_run(case, bench, "kill_raylet", [lost], 4)


def killed_embedded_raylet(case: Case, bench: Bench) -> Outcome:
    """SIGKILL of the raylet of a cluster that the run itself started: its driver goes down with it."""
    world = bench.world.copy(case.folder / "world")
    environment = bench.without_head | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def again() -> Try:
        if case.tries:
            return in_process(world.run(), case.folder)
        at = case.draw("at", *_SELECTING)
        plan = case.plan(
            world.folder / "run",
            counts_batches=False,
            at=at,
            delay_s=case.seconds("delay", _CALLS_S),
            action="kill_raylet",
        )
        return on_ray(world.run(2, None, "cluster.address=local"), case.folder, environment, plan)

    case.add(again())
    return finish_run(case, world.folder / "run", bench.run, again)


def out_of_memory(case: Case, bench: Bench) -> Outcome:
    """Shards on one node are killed for want of memory, until the node is gone."""
    world = bench.world.copy(case.folder / "world")
    with node(bench.head, RAY_memory_usage_threshold="0.001", RAY_min_memory_free_bytes="-1") as starved:
        end = threading.Timer(case.draw("seconds", 4, 20), _kill_tree, [starved])
        end.start()

        def again() -> Try:
            if case.tries:  # the node is gone
                return on_ray(world.run(3), case.folder, bench.environment)
            tried = on_ray(world.run(4, None, "cluster.restart_deadline_s=40"), case.folder, bench.environment)
            end.join()
            logs = "".join(path.read_text(errors="replace") for path in bench.head.logs.glob("raylet*.out"))
            return Try(tried.exit, tried.seconds, tried.output, "OOM kill reason" in logs)

        case.add(again())
        return finish_run(case, world.folder / "run", bench.run, again)


def resized(case: Case, bench: Bench) -> Outcome:
    """Killed twice and carried on by another number of shards each time, in one process or over one or two nodes."""
    world = bench.world.copy(case.folder / "world")
    run = world.folder / "run"

    def again() -> Try:
        number = len(case.tries)
        shards, extra = case.draw(f"shards {number}", 0, 4), case.draw(f"extra node {number}", 0, 1)
        plan = None
        if number < 2:
            at = case.draw(f"at {number}", 1, bench.num_operations("run", batches=False))
            plan = case.plan(run, counts_batches=False, at=at, action="kill_self")
        if not shards:
            return in_process(world.run(), case.folder, plan)
        if not extra and shards < 4:
            return on_ray(world.run(shards), case.folder, bench.environment, plan)
        with node(bench.head):
            return on_ray(world.run(shards), case.folder, bench.environment, plan)

    case.add(again())
    return finish_run(case, run, bench.run, again)


def _struck_run(case: Case, bench: Bench, action: str, roots: list[int], shards: int) -> Outcome:
    world: World = bench.world.copy(case.folder / "world")
    run: Path = world.folder / "run"

    def again() -> Try:
        if case.tries:
            return on_ray(world.run(min(shards, 3)), case.folder, bench.environment)
        at = case.draw("at", *_SELECTING)
        plan = case.plan(
            run,
            counts_batches=False,
            at=at,
            delay_s=case.seconds("delay", _CALLS_S),
            action=action,
            which=case.draw("which", 0, 3),
            roots=roots,
        )
        return on_ray(world.run(shards, None, "cluster.restart_deadline_s=40"), case.folder, bench.environment, plan)

    case.add(again())
    return finish_run(case, run, bench.run, again)


def _kill_tree(root: int) -> None:
    processes.kill([root, *processes.descendants(root)])
