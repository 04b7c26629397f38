"""Disks that are full at a drawn moment: small ones of tmpfs, filled to the last bytes by a file beside the run.

Where this user may not mount, writes fail with ENOSPC from that moment on instead.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.bench import Bench
from tests.faults.case import Case, Outcome, finish_run, finish_tick
from tests.faults.tries import Try, in_process

_DISK = "size=96m"
_FILLER = "filler"
_CACHE_OPERATIONS = 24
"""On the cache, until all features are there."""


def full_run_directory(case: Case, bench: Bench) -> Outcome:
    """No space for the run directory."""
    world = bench.world.copy(case.folder / "world")
    with disk(case.folder / "disk") as place:
        again = _filling(case, place, bench.num_operations("run"), world.run(0, place))
        case.add(again())
        return finish_run(case, place / "run", bench.run, again)


def full_state(case: Case, bench: Bench) -> Outcome:
    """No space for the state directory."""
    world = bench.ticked.copy(case.folder / "world")
    with disk(case.folder / "disk") as place:
        subprocess.run(["cp", "-a", world.folder / "state", place / "state"], check=True)
        again = _filling(case, place, bench.num_operations("tick"), world.tick("t1", place))
        case.add(again())
        return finish_tick(case, place / "state", bench.ticks, again)


def full_cache(case: Case, bench: Bench) -> Outcome:
    """No space for the features that are to be kept on disk."""
    world = bench.world.copy(case.folder / "world")
    with disk(case.folder / "disk") as place:
        stored = ["pool.storage=disk", f"cluster.cache_dir={place / 'cache'}"]
        again = _filling(case, place, _CACHE_OPERATIONS, world.run(0, None, *stored))
        case.add(again())
        return finish_run(case, world.folder / "run", bench.run, again)


def _filling(case: Case, place: Path, operations: int, options: Sequence[str]) -> Callable[[], Try]:
    """Return a try of which the first meets a full disk at a drawn moment; before the next there is space again."""
    at, left = case.draw("at", 1, operations), case.draw("bytes left", 0, 200) << 10
    case.drawn["really"] = may_mount()

    def again() -> Try:
        (place / _FILLER).unlink(missing_ok=True)
        if case.tries:
            return in_process(options, case.folder)
        if may_mount():
            plan = case.plan(place, at=at, action="fill", paths=[str(place / _FILLER)], keep_free=left)
        else:
            plan = case.plan(place, at=at, error_rate=1.0, errors=[errno.ENOSPC])
        return in_process(options, case.folder, plan)

    return again


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """A small disk of its own, where this user may mount one; else a folder."""
    place.mkdir(parents=True)
    if not may_mount():
        yield place
        return
    _mount(place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@cache
def may_mount() -> bool:
    """Whether this user may mount a tmpfs."""
    with TemporaryDirectory() as folder:
        try:
            _mount(Path(folder))
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def _mount(place: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", str(place)]
    subprocess.run(command, check=True, capture_output=True)
