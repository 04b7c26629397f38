"""The driver of a run or tick in one process is killed, and a filesystem errs now and then."""

from __future__ import annotations

import errno
from pathlib import Path

from tests.faults import evidence
from tests.faults.bench import Bench
from tests.faults.case import Case, Outcome, finish_run, finish_tick, require
from tests.faults.injection import Plan
from tests.faults.tries import Try, in_process

FLAKY_TRIES = 6


def killed_run(case: Case, bench: Bench) -> Outcome:
    """SIGKILL at an operation of the run; perhaps once more at one of the next try."""
    world = bench.world.copy(case.folder / "world")
    run, kills = world.folder / "run", case.draw("kills", 1, 2)
    more = case.choose("options", [[], ["pool.storage=disk", f"cluster.cache_dir={world.folder / 'cache'}"]])
    case.drawn["options"] = bool(more)

    def again() -> Try:
        if len(case.tries) >= kills:
            return in_process(world.run(0, None, *more), case.folder)
        at = case.draw(f"at {len(case.tries)}", 1, bench.num_operations("run"))
        plan = case.plan(run, world.folder / "cache", at=at, action="kill_self")
        return in_process(world.run(0, None, *more), case.folder, plan)

    case.add(again())
    return finish_run(case, run, bench.run, again)


def stopped_run(case: Case, bench: Bench) -> Outcome:
    """SIGTERM a moment after an operation of the run: its status tells so."""
    world = bench.world.copy(case.folder / "world")
    run = world.folder / "run"

    def again() -> Try:
        if case.tries:
            return in_process(world.run(), case.folder)
        at, delay = case.draw("at", 1, bench.num_operations("run")), case.seconds("delay", 0.3)
        tried = in_process(world.run(), case.folder, case.plan(run, at=at, delay_s=delay, action="stop_self"))
        if tried.struck and tried.exit != 0:
            require(evidence.untrue_of_stopped(run))
        return tried

    case.add(again())
    return finish_run(case, run, bench.run, again)


def killed_tick(case: Case, bench: Bench) -> Outcome:
    """SIGKILL at an operation of the tick; perhaps once more at one of the next try."""
    world = bench.ticked.copy(case.folder / "world")
    state, kills = world.folder / "state", case.draw("kills", 1, 2)

    def again() -> Try:
        if len(case.tries) >= kills:
            return in_process(world.tick("t1"), case.folder)
        at = case.draw(f"at {len(case.tries)}", 1, bench.num_operations("tick"))
        return in_process(world.tick("t1"), case.folder, case.plan(state, at=at, action="kill_self"))

    case.add(again())
    return finish_tick(case, state, bench.ticks, again)


def flaky_run_directory(case: Case, bench: Bench) -> Outcome:
    """Some operations on the run directory fail, in several tries."""
    world = bench.world.copy(case.folder / "world")
    run, rate = world.folder / "run", _rate(case)

    def again() -> Try:
        return in_process(world.run(), case.folder, _flaky_plan(case, rate, run))

    case.add(again())
    return finish_run(case, run, bench.run, again)


def flaky_state(case: Case, bench: Bench) -> Outcome:
    """Some operations on the state directory fail, in several tries."""
    world = bench.ticked.copy(case.folder / "world")
    state, rate = world.folder / "state", _rate(case)

    def again() -> Try:
        return in_process(world.tick("t1"), case.folder, _flaky_plan(case, rate, state))

    case.add(again())
    return finish_tick(case, state, bench.ticks, again)


def flaky_pool(case: Case, bench: Bench) -> Outcome:
    """Some reads of the files of the pool, the target included, fail, in several tries."""
    world = bench.world.copy(case.folder / "world")
    rate = _rate(case)

    def again() -> Try:
        return in_process(world.run(), case.folder, _flaky_plan(case, rate, world.pool, world.target))

    case.add(again())
    return finish_run(case, world.folder / "run", bench.run, again)


def _flaky_plan(case: Case, rate: float, *places: Path) -> Plan | None:
    """Return the faults of the next try; after some tries storage is well again."""
    if len(case.tries) >= FLAKY_TRIES:
        return None
    return case.plan(*places, counts_batches=False, error_rate=rate)


def _rate(case: Case) -> float:
    rate = case.choose("error rate", [0.003, 0.01, 0.03])
    case.drawn["errors"] = [errno.errorcode[number] for number in (errno.EIO, errno.ETIMEDOUT)]
    return rate
