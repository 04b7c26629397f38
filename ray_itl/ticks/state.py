"""A state directory: its log, the run directories of its ticks, its status, and its readable history."""

from __future__ import annotations

import glob
import io
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ray_itl.curation.summary import why_stopped
from ray_itl.errors import MissingExtraError, RunDirectoryError
from ray_itl.report.ticks_page import TickPoint, TicksReport, render_ticks
from ray_itl.ticks.history import PastTick, TickRecord, past_tick, ticks_table
from ray_itl.ticks.log import FOLDER as LOG
from ray_itl.ticks.log import StateStore, TickLog

RUNS = "ticks"
HISTORY = "ticks.parquet"
REPORT = "ticks.html"
STATUS = "status.json"
_STAGING = "staging"
_STATUS_EVERY_S = 1.0
_THREADS = 16
_UNFINISHED = ("running", "failed", "interrupted")


class State:
    """One state directory, seen by one tick. It need not exist yet."""

    def __init__(self, location: str) -> None:
        """Name it by a path or URI. UnusableStoreError if that means nothing."""
        self.store = StateStore(location)
        self.log = TickLog(self.store)
        self._status_due = 0.0

    def ticks(self) -> list[PastTick]:
        """Return the published ticks, first to last."""
        return [past_tick(entry) for entry in self.log.ticks()]

    def staging(self, run_dir: str | None) -> Path:
        """Return the local folder where unfinished ticks are kept, which a later try finds again on this machine.

        RunDirectoryError if it would be in the temporary folder, and another user could write it.
        """
        if run_dir is not None:
            return Path(run_dir)
        if self.store.is_local:
            return Path(self.store.path(_STAGING))
        name = sha256(self.store.location.encode()).hexdigest()[:16]
        return _private(Path(tempfile.gettempdir()) / f"ray_itl-ticks-{os.getuid()}-{name}")

    def tidy(self, tick: str, run_dir: str | None) -> None:
        """Remove what a process left that ended after it had published a tick; failures wait for the next call.

        That is what it had prepared of the tick, and what it was about to write, once that is surely nobody's.
        """
        with suppress(OSError, RunDirectoryError):
            for folder in self.staging(run_dir).glob(f"{glob.escape(tick)}-{'[0-9a-f]' * 12}"):
                shutil.rmtree(folder)
            for name in ("", LOG):
                self.store.remove_leftovers(name)

    def remove_abandoned(self, records: Sequence[TickRecord]) -> None:
        """Delete what ticks that died left under `ticks/`, and killed writes elsewhere; for the holder of the lease."""
        published = {record.path for record in records}
        for name in self.store.names(RUNS):
            if f"{RUNS}/{name}" not in published:
                self.store.remove_folder(f"{RUNS}/{name}")
        for folder in ("", LOG):
            self.store.remove_leftovers(folder)

    def set_status(self, facts: Mapping[str, Any]) -> None:
        """Write status.json, at most every second while running; it is a courtesy, so errors do not matter."""
        now = time.monotonic()
        if facts["state"] == "running" and now < self._status_due:
            return
        self._status_due = now + _STATUS_EVERY_S
        with suppress(RunDirectoryError):
            self.store.write(STATUS, json.dumps(dict(facts), indent=2, ensure_ascii=False).encode() + b"\n")

    def settle_status(self, tick: str, record: Mapping[str, Any]) -> None:
        """Make status.json say that a published tick is finished, where its process died or storage erred before."""
        with suppress(RunDirectoryError, ValueError):
            status = json.loads(self.store.read(STATUS) or b"{}")
            if (status.get("tick"), status.get("state")) in ((tick, state) for state in _UNFINISHED):
                self.set_status({**record, "state": "finished"})

    def refresh_history(self, notify: Callable[[str], None]) -> None:
        """Make ticks.parquet and ticks.html tell of every published tick, also of those published meanwhile."""
        num_told = self._num_told()
        while num_told < len(records := [tick.record for tick in self.ticks()]):
            buffer = io.BytesIO()
            pq.write_table(ticks_table(records), buffer)
            try:
                self.store.write(REPORT, render_ticks(_report(records, self._files(records))).encode())
            except MissingExtraError as error:
                notify(f"no {REPORT}: {error}")
            self.store.write(HISTORY, buffer.getvalue())
            num_told = len(records)

    def _files(self, records: Sequence[TickRecord]) -> list[list[str]]:
        """Return the names of what each tick left; nothing of one whose folder cannot be listed."""

        def names(record: TickRecord) -> list[str]:
            with suppress(RunDirectoryError):
                return self.store.names(record.path)
            return []

        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(names, records))

    def _num_told(self) -> int:
        try:
            return self.store.read_table(HISTORY, ["tick"]).num_rows
        except RunDirectoryError:  # missing, or damaged: written anew
            return 0


def _private(folder: Path) -> Path:
    """Create a folder that only this user can write, in one where others can write, too."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise RunDirectoryError(f"cannot create {folder}: {error}; set run.dir to a folder of your own") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise RunDirectoryError(f"{folder} may be another user's: set run.dir to a folder of your own")
    return folder


def _report(records: Sequence[TickRecord], files: Sequence[Sequence[str]]) -> TicksReport:
    return TicksReport(
        title="ray_itl ticks",
        unit=records[-1].unit,
        ticks=[
            TickPoint(
                record.tick,
                record.time,
                record.new_files,
                record.new_rows,
                record.picks,
                record.gain,
                record.uncertainty_left,
                why_stopped(record.stop, record.next_gain, record.unit),
                record.path,
                names,
            )
            for record, names in zip(records, files, strict=True)
        ],
        uncertainty_at_first=records[0].uncertainty_before,
    )
