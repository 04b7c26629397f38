"""A file of the pool is replaced while a run reads it: refused by its name, unless nothing of it is needed any more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.faults import evidence
from tests.faults.bench import Bench
from tests.faults.case import Case, DifferentError, Outcome, require
from tests.faults.tries import BAD_INPUT, BUSY, Try, in_process, on_ray
from tests.faults.world import FILES, GROUP, World, name_of, write_part

_REFUSED = (BAD_INPUT, BUSY)
"""The second of a file that was cut short: it has just been written, so it may be on its way."""
_NEW_SEED = 500


def replaced(case: Case, bench: Bench) -> Outcome:
    """Another file in the place of one, with its times: of equal shape and size, other row groups, or cut short."""
    world = bench.world.copy(case.folder / "world")
    victim, new = _prepare(case, world)
    more = ["pool.storage=disk", f"cluster.cache_dir={world.folder / 'cache'}"] if case.choose("disk", [0, 1]) else []
    at = case.draw("at", 1, bench.num_operations("run") + 2 * FILES)
    plan = case.plan(
        world.folder / "run",
        world.pool,
        at=at,
        action="replace",
        paths=[str(new), str(victim)],
        in_place=bool(case.choose("in place", [0, 1])),
    )
    case.add(in_process(world.run(0, None, *more), case.folder, plan))
    return _judge(case, bench, world, victim)


def replaced_and_rebuilt(case: Case, bench: Bench) -> Outcome:
    """Over Ray: the file is replaced, then a shard dies and is loaded anew."""
    world = bench.world.copy(case.folder / "world")
    victim, new = _prepare(case, world)
    at = case.draw("at", 10, 180)
    plan = case.plan(
        world.folder / "run",
        counts_batches=False,
        at=at,
        action="replace",
        paths=[str(new), str(victim)],
        then="kill_shard",
        which=case.draw("shard", 0, 1),
        roots=bench.nodes(),
    )
    case.add(on_ray(world.run(2), case.folder, bench.environment, plan))
    return _judge(case, bench, world, victim)


def _prepare(case: Case, world: World) -> tuple[Path, Path]:
    number = case.draw("file", 0, FILES - 1)
    new = world.folder / "new.parquet"
    how = case.choose("how", ["same shape", "other groups", "cut short"])
    write_part(new, number, seed=_NEW_SEED + number, group=GROUP // 2 if how == "other groups" else GROUP)
    if how == "cut short":
        new.write_bytes(new.read_bytes()[: new.stat().st_size // 2])
    victim = world.pool / name_of(number)
    shutil.copy2(victim, world.folder / "kept.parquet")
    return victim, new


def _judge(case: Case, bench: Bench, world: World, victim: Path) -> Outcome:
    """After one try: done right, or refused by name; with the file restored the same command always ends right."""
    first, run = case.tries[0], world.folder / "run"
    if not first.struck:
        require(evidence.difference(bench.run, evidence.of_run(run)))
        return "missed"
    if first.exit == 0:
        return _judge_done(case, bench, world, run)
    if first.exit not in _REFUSED or victim.name not in first.error:
        raise DifferentError(f"exit code {first.exit} does not name {victim.name}: {first.error}")
    again = case.add(_plain(case, world))
    if again.exit != 0 and (again.exit not in _REFUSED or victim.name not in again.error):
        raise DifferentError(f"the next try does not name {victim.name}: {again.error}")
    if again.exit == 0:  # nothing had been picked before: this was a new run on the new file
        require(_difference_from_fresh(case, world, run))
        return "refused"
    shutil.copy2(world.folder / "kept.parquet", victim)
    done = case.add(_plain(case, world))
    require("" if done.exit == 0 else f"not even with the file restored: {done.error}")
    require(evidence.difference(bench.run, evidence.of_run(run)))
    return "refused"


def _judge_done(case: Case, bench: Bench, world: World, run: Path) -> Outcome:
    """A run that ended well is one on the file that its manifest names."""
    manifest = json.loads((run / "manifest.json").read_text())
    if manifest["identity"]["pool"] == bench.pool_identity:
        require(evidence.difference(bench.run, evidence.of_run(run)))
    else:  # it was replaced before it was looked at
        require(_difference_from_fresh(case, world, run))
    return "survived"


def _difference_from_fresh(case: Case, world: World, run: Path) -> str:
    other = World(world.folder)
    fresh = in_process(other.run(0, world.folder / "fresh"), case.folder)
    require("" if fresh.exit == 0 else fresh.output[-500:])
    return evidence.difference(evidence.of_run(world.folder / "fresh" / "run"), evidence.of_run(run))


def _plain(case: Case, world: World) -> Try:
    return in_process(world.run(), case.folder)
