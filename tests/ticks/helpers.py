"""A pool that grows by parts, ticks over it, and the dense reference that they must equal."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from ray_itl.core import greedy
from ray_itl.core.posterior import Targets
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.curation.state_settings import StateSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import BusyError
from ray_itl.observability.reporter import Reporter
from ray_itl.sources.settings import PoolSettings, TargetSettings
from ray_itl.ticks.history import TickRecord
from ray_itl.ticks.lease import Clocks, Lease, acquire
from ray_itl.ticks.log import StateStore, TickLog
from ray_itl.ticks.state import State
from ray_itl.ticks.tick import Tick, run_tick
from tests.helpers import SMALL_BLOCKS, clustered, table_of
from tests.oracle import dense_greedy

BUSY, DEAD = os.EX_TEMPFAIL, -signal.SIGKILL


@dataclass
class FakeClocks:
    """Clocks of one machine that tests set; `sleep` moves all of them."""

    day: float = 1000.0
    steady: float = 5.0
    asleep: float = 0.0
    naps: list[float] = field(default_factory=list)

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.day, lambda: self.steady, lambda: self.steady + self.asleep, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        self.day += seconds
        self.steady += seconds


def seize(location: str, tick: str = "t1") -> Lease:
    """Take a state over from whoever holds it, as a process would to which it seems dead."""
    return acquire(TickLog(StateStore(location)), tick, 60, None, wait_s=1e6, clocks=FakeClocks().clocks())


class Growing:
    """A pool without parts yet, a target sample, and a state directory that is not there yet."""

    def __init__(self, folder: Path, location: str | None = None, rows: int = 60, text_ids: bool = False) -> None:
        self.folder, self.pool, self.target = folder, folder / "pool", folder / "target.parquet"
        self.location = location or str(folder / "state")
        self.rows, self.text_ids = rows, text_ids
        self.pool.mkdir(parents=True)
        pq.write_table(table_of(clustered(12, seed=2)), self.target)

    def grow(self, *parts: int) -> None:
        """Add parts; part k has ids from 1000 k."""
        for part in parts:
            self.write(part, self.pool / f"part-{part:02d}.parquet")

    def write(self, part: int, path: Path, seed: int | None = None) -> None:
        rows = clustered(self.rows, seed=part + 10 if seed is None else seed)
        pq.write_table(table_of(rows, first_id=1000 * part, text_ids=self.text_ids), path, row_group_size=25)

    def copy(self, folder: Path) -> Growing:
        """Return a copy of everything so far, state included, in another folder."""
        shutil.copytree(self.folder, folder)
        copy = Growing.__new__(Growing)
        copy.__dict__ = {
            **self.__dict__,
            "folder": folder,
            "pool": folder / "pool",
            "target": folder / "target.parquet",
        }
        copy.location = str(folder / "state")
        return copy

    def settings(self, tick: str | None, n: int = 5, **changes: Any) -> CurationSettings:
        base = CurationSettings(
            pool=PoolSettings(path=str(self.pool)),
            target=TargetSettings(path=str(self.target)),
            acquisition=replace(CurationSettings().acquisition, noise_variance=0.1),
            selection=SelectionSettings(n=n),
            cluster=ClusterSettings(num_shards=0),
            run=RunSettings(report=False, log="quiet"),
            state=StateSettings(dir=self.location, tick=tick),
        )
        return replace(base, **{group: replace(getattr(base, group), **options) for group, options in changes.items()})

    def tick(self, tick: str | None, n: int = 5, reporter: Reporter | None = None, **changes: Any) -> Tick:
        return run_tick(self.settings(tick, n, **changes), reporter)

    def records(self) -> list[TickRecord]:
        return [tick.record for tick in State(self.location).ticks()]

    def picks(self, record: TickRecord) -> list[Any]:
        return State(self.location).store.read_table(f"{record.path}/selection.parquet").column("id").to_pylist()

    def all_picks(self) -> list[list[Any]]:
        return [self.picks(record) for record in self.records()]

    def history(self) -> list[dict[str, Any]]:
        return State(self.location).store.read_table("ticks.parquet").to_pylist()


def dense_ticks(
    growing: Growing, parts: list[list[int]], n: int, candidates: str, min_gain: float = 0.0
) -> list[list[int]]:
    """The picks of ticks that each find some more parts, by the dense definitions alone."""
    features, ids, part_of = [], [], []
    for part in sorted({part for new in parts for part in new}):
        table = pq.read_table(growing.pool / f"part-{part:02d}.parquet")
        features.append(np.array(table.column("embedding").to_pylist()))
        ids.append(table.column("id").to_numpy())
        part_of.append(np.full(len(table), part))
    rows, row_ids, owner = torch.tensor(np.concatenate(features)), np.concatenate(ids), np.concatenate(part_of)
    targets = Targets.uniform(torch.tensor(np.array(pq.read_table(growing.target).column("embedding").to_pylist())))
    taken: list[int] = []
    picks = []
    for tick, new in enumerate(parts):
        seen = np.isin(owner, [part for some in parts[: tick + 1] for part in some])
        open_to = np.isin(owner, new) if candidates == "new" else seen
        here = np.flatnonzero(open_to)
        if not len(here):
            picks.append([])
            continue
        chosen = dense_greedy(
            "itl", rows[here], row_ids[here], targets, n, 0.1, known=rows[taken] if taken else None,
            min_gain=min_gain, excluded=np.flatnonzero(np.isin(here, taken)).tolist(),
        )  # fmt: skip
        taken += here[[pick.index for pick in chosen]].tolist()
        picks.append(row_ids[here[[pick.index for pick in chosen]]].tolist())
    return picks


FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["tests.ticks.helpers"])


def in_process(settings: CurationSettings, kill_at: int = 0) -> BaseProcess:
    """Start a tick in a process of its own, which SIGKILLs itself at its `kill_at`-th file operation (0: never)."""
    process = FORKSERVER.Process(target=_run, args=(settings, kill_at))
    process.start()
    return process


def exit_code(process: Any) -> int:
    process.join(250)  # it starts in a second, where nothing else runs
    assert process.exitcode is not None, "a tick in a process of its own hangs"
    return process.exitcode


def count_operations(settings: CurationSettings) -> int:
    """Run a tick in a process of its own and return how many file operations it did."""
    receive, send = FORKSERVER.Pipe(duplex=False)
    process = FORKSERVER.Process(target=_run_and_count, args=(settings, send))
    process.start()
    count = receive.recv()
    assert exit_code(process) == 0
    return count


def _run(settings: CurationSettings, kill_at: int) -> None:
    _take_many_passes()
    _counting(settings, kill_at)
    try:
        run_tick(settings)
    except BusyError:
        sys.exit(BUSY)


def _run_and_count(settings: CurationSettings, send: Any) -> None:
    _take_many_passes()
    count = _counting(settings, 0)
    run_tick(settings)
    send.send(count())


def _take_many_passes() -> None:
    """So that a tick dies between blocks, too."""
    torch.set_num_threads(1)
    greedy.Schedule = lambda: SMALL_BLOCKS  # type: ignore[misc, assignment]


def _counting(settings: CurationSettings, kill_at: int) -> Callable[[], int]:
    """Count the file operations under the state directory, and die at one of them."""
    kinds = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"}
    place, count = str(settings.state.dir), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in kinds and arguments and str(arguments[0]).startswith(place):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count
