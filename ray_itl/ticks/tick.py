"""One tick: claim the state, find what is new, select given all earlier picks, publish. Safe to run again any time.

At its end it says what the new data was worth, and where its results are.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ray_itl.curation.constraints import with_lists, with_number
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.identity import run_identity
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.lengthscale import with_lengthscale
from ray_itl.curation.outputs import check_columns
from ray_itl.curation.preparation import with_begun
from ray_itl.curation.problem import Problem
from ray_itl.curation.pushing import check_push
from ray_itl.curation.run import curate_problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.summary import why_stopped
from ray_itl.errors import BusyError, NoRoomError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Heartbeat
from ray_itl.runs.environment import submission_id
from ray_itl.selection import Selection
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.text import plural
from ray_itl.ticks.changes import PoolChanges, changes_table, compare
from ray_itl.ticks.history import (
    FILES,
    PastTick,
    Stop,
    TickRecord,
    conditioned_on,
    log_content,
    read_history,
    require_files,
)
from ray_itl.ticks.lease import Clocks, Lease, acquire
from ray_itl.ticks.problem import check_identity, open_whole_pool, shared_identity, with_first_noise
from ray_itl.ticks.pushing import push_tick, pushed_before
from ray_itl.ticks.state import RUNS, State


@dataclass(frozen=True)
class Tick:
    """What a call found or did."""

    record: TickRecord
    location: str
    """The state directory."""
    is_new: bool
    """Whether this call published it; otherwise one before did, and this one changed nothing."""
    skipped_rows: int = 0
    """Rows that cannot be used and were passed over."""
    heldout_rows: int = 0
    """Rows nearly equal to held-out ones, which were excluded."""


def run_tick(
    settings: CurationSettings, reporter: Reporter | None = None, clock: Callable[[], float] = time.time
) -> Tick:
    """Carry out one tick on `settings.state.dir`, or return the one of that name that was published before.

    The tick conditions on everything that earlier ticks picked, looks at rows of new files or of the whole pool (never
    at rows picked before), picks up to `selection.n`, and publishes its run directory by one entry in the log: it is
    there whole, or not at all. After a crash at any moment the same call finishes the tick, and the result is that of
    an uninterrupted one as long as pool and options are.

    Args:
        settings: All options; `state.dir` is set. `run.dir`, if set, is where unfinished ticks are kept.
        reporter: Where progress goes.
        clock: Seconds since 1970.

    Raises:
        InputError, ConfigError: inputs or options that cannot be used, or that changed since earlier ticks; nothing is
            published.
        BusyError: another tick is at work on the state directory, or has taken it over from this one.
        RunDirectoryError: the state directory cannot be written or is damaged.
        ShardError: a part of the cluster failed for good; the same call resumes.
        StorageError: the picks of the tick, which is published, could not be pushed; the same call pushes them.
    """
    reporter = reporter or Reporter(settings.run.log)
    check_columns(settings.pool.columns, settings.selection.explain)
    state = State(str(settings.state.dir))
    ticks = state.ticks()
    name = tick_name(settings.state.tick, ticks, clock())
    if not any(tick.record.tick == name for tick in ticks):
        asked, clocks = settings.state, Clocks(day=clock)
        lease = acquire(state.log, name, asked.lease_s, submission_id(), asked.wait_s, reporter.info, clocks)
        with lease.kept_alive():
            ticks = state.ticks()  # another may have been published before the claim
            name = tick_name(settings.state.tick, ticks, clock())
            if not any(tick.record.tick == name for tick in ticks):
                settings = with_begun(settings, ticks[-1].identity if ticks else {}, reporter)
                settings = replace(settings, state=replace(settings.state, tick=name))
                record = _Work(state, settings, lease, reporter, clock).execute(ticks)
                state.settle_status(name, asdict(record))  # storage may have erred just as it was told
                state.refresh_history(reporter.warn)
                push_tick(state, record, settings, reporter)
                return _tick(state, record, is_new=True)
    state.refresh_history(reporter.warn)
    record = next(tick.record for tick in ticks if tick.record.tick == name)
    state.settle_status(name, asdict(record))
    state.tidy(name, settings.run.dir)
    push_tick(state, record, settings, reporter)
    return _tick(state, record, is_new=False)


def _tick(state: State, record: TickRecord, is_new: bool) -> Tick:
    """Return a published tick, with how many rows it passed over."""
    content = state.store.read(f"{record.path}/metrics.json")
    metrics = {} if content is None else json.loads(content)
    passed_over = metrics.get("skipped_rows", 0), metrics.get("heldout_rows", 0)
    return Tick(record, state.store.location, is_new, *passed_over)


def tick_name(option: str | None, ticks: list[PastTick], now: float) -> str:
    """Return the name of the tick that `state.tick` means: itself, the date in UTC, or the next free number.

    By default the date, since a scheduler may start a tick twice, or all that it missed at once: however often it does,
    a day's tick is done once.
    """
    if option is None:
        return time.strftime("%Y-%m-%d", time.gmtime(now))
    if option != "next":
        return option
    taken = {tick.record.tick for tick in ticks}
    number = len(ticks) + 1
    while f"{number:06d}" in taken:
        number += 1
    return f"{number:06d}"


class _Work:
    """One try at a tick, by the holder of the lease."""

    def __init__(
        self, state: State, settings: CurationSettings, lease: Lease, reporter: Reporter, clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._settings = settings
        self._lease = lease
        self._reporter = reporter
        self._clock = clock
        self._began = time.monotonic()
        self._heartbeat = Heartbeat(self._set_status, clock, lease.check)

    def execute(self, ticks: list[PastTick]) -> TickRecord:
        """Select and publish, given the ticks so far; says in status.json how it goes."""
        try:
            self._heartbeat.tell({"state": "running", "step": "open"})
            with self._heartbeat.beating():
                return self._execute(ticks)
        except BaseException as error:
            if not isinstance(error, BusyError) or isinstance(error, NoRoomError):
                # else the status is another tick's to write
                self._heartbeat.end(error)
            raise

    def _execute(self, ticks: list[PastTick]) -> TickRecord:
        state, settings = self._state, self._settings
        records = [tick.record for tick in ticks]
        state.remove_abandoned(records)
        if settings.run.push_to_hub is not None:
            check_push(settings, pushed_before(state, records, settings.run.push_to_hub))
        if settings.pool.filter is not None:
            self._reporter.info("reading the columns that pool.filter looks at")
        with self._reporter.stage("open"):
            now = self._lease.written_now() if settings.pool.settle_s else None
            reporter = self._reporter
            whole = open_whole_pool(
                settings,
                Inputs(
                    written_now=now,
                    on_text=reporter.texts(),
                    tell=reporter.info,
                    on_rows=reporter.rows_of("embedded"),
                ),
            )
            settings = with_lengthscale(settings, whole)
            identity = shared_identity(whole, settings)
            check_identity(ticks, identity, settings)
            whole = with_first_noise(whole, records, settings)
            history = read_history(state.store, records)
            changes = compare(require_files(whole).manifest, history.seen, settings.state.on_changed)
            problem = with_lists(conditioned_on(whole, history, changes, settings.state.candidates), settings)
        self._settings = settings = with_number(settings, problem, self._reporter.info)
        found = f"{plural(len(changes.new_files), 'new file')} with {plural(changes.num_rows, 'row')}"
        self._reporter.info(
            f"tick {settings.state.tick}: {found}; "
            f"{plural(sum(record.picks for record in records), 'row')} picked before"
        )
        folder = self._folder(problem)
        run = replace(settings, run=replace(settings.run, dir=str(folder)))
        selection = curate_problem(problem, run, self._reporter, self._watch, kept=settings)
        write_parquet_table(folder / FILES, changes_table(changes.files))
        return self._publish(folder, self._record(problem, changes, selection, records), identity)

    def _folder(self, problem: Problem) -> Path:
        """Return where this tick is prepared: a try on other inputs, however it ended, is not continued."""
        inputs = json.dumps(run_identity(problem, self._settings), sort_keys=True)
        name = f"{self._settings.state.tick}-{sha256(inputs.encode()).hexdigest()[:12]}"
        return self._state.staging(self._settings.run.dir) / name

    def _record(
        self, problem: Problem, changes: PoolChanges, selection: Selection, records: list[TickRecord]
    ) -> TickRecord:
        lost = sum(selection.metrics.get(name, 0) for name in ("skipped_rows", "heldout_rows"))
        return TickRecord(
            tick=str(self._settings.state.tick),
            time=self._clock(),
            new_files=len(changes.new_files),
            new_rows=changes.num_rows,
            candidate_rows=0 if problem.nothing_to_pick else problem.num_free - lost,
            picks=len(selection),
            gain=float(selection.gains.sum()),
            unit=selection.unit,
            stop=_stop(self._settings, changes, selection),
            next_gain=selection.metrics["next_gain"],
            cumulative_picks=sum(record.picks for record in records) + len(selection),
            uncertainty_before=float(selection.remaining_uncertainty[0]),
            uncertainty_left=float(selection.remaining_uncertainty[-1]),
            seconds=round(time.monotonic() - self._began, 3),
            submission_id=submission_id(),
            path=f"{RUNS}/{self._settings.state.tick}-{self._lease.number:08d}",
            noise_variance=selection.metrics["noise_variance"],
        )

    def _publish(self, folder: Path, record: TickRecord, identity: Mapping[str, str]) -> TickRecord:
        self._lease.check()
        self._state.store.upload(folder, record.path)
        self._lease.publish(log_content(record, identity))
        shutil.rmtree(folder if self._settings.run.dir is not None else folder.parent, ignore_errors=True)
        warned = {"warnings": list(self._reporter.warnings)} if self._reporter.warnings else {}
        self._heartbeat.tell({"state": "finished", **asdict(record), **warned})
        return record

    def _watch(self, status: Mapping[str, Any]) -> None:
        """Pass on the status of the selection; ends it where another process has taken over."""
        self._lease.check()
        told = {**status, "state": "running", "step": "publish"} if status["state"] == "finished" else status
        self._heartbeat.tell(told)

    def _set_status(self, facts: Mapping[str, Any]) -> None:
        self._state.set_status({"tick": self._settings.state.tick, **facts})


def _stop(settings: CurationSettings, changes: PoolChanges, selection: Selection) -> Stop:
    if selection.metrics["stop"] in ("min_gain", "share"):
        return selection.metrics["stop"]
    if settings.state.candidates == "new" and not changes.num_rows:
        return "nothing_new"
    return "n" if len(selection) == settings.selection.n else "no_rows"


def summarise_tick(tick: Tick) -> JobSummary:
    """Return the ending of a tick, published by this call or before."""
    record = tick.record
    already = "" if tick.is_new else " was published already, nothing was done"
    headline = (
        f"tick {record.tick}{already}: {plural(record.new_files, 'new file')} with {plural(record.new_rows, 'row')}; "
        f"{_worth(record)}"
    )
    if tick.skipped_rows:
        headline += f" ({tick.skipped_rows:,} rows that cannot be used passed over)"
    if tick.heldout_rows:
        headline += f" ({tick.heldout_rows:,} rows nearly equal to held-out ones excluded)"
    paths = {"results": f"{tick.location}/{record.path}", "history": f"{tick.location}/ticks.parquet"}
    lines = [
        f"{record.uncertainty_left:.1%} of the targets' uncertainty left ({record.uncertainty_before:.1%} before); "
        f"{record.cumulative_picks:,} picks in all ticks",
        f"results: {paths['results']}",
        *([f"skipped: {paths['results']}/{SKIPPED_FILE}"] if tick.skipped_rows else []),
        *([f"heldout: {paths['results']}/{HELDOUT_FILE}"] if tick.heldout_rows else []),
        f"history: {paths['history']} and ticks.html",
    ]
    facts = {"is_new": tick.is_new, "skipped": tick.skipped_rows, "heldout": tick.heldout_rows}
    return JobSummary(headline, "\n".join(lines), {**asdict(record), **facts}, paths)


def _worth(record: TickRecord) -> str:
    why = why_stopped(record.stop, record.next_gain, record.unit)
    if not record.picks:
        return f"nothing worth adding: {why}"
    return f"picked {record.picks:,} of {record.candidate_rows:,}, worth {record.gain:.4g} {record.unit}: {why}"
