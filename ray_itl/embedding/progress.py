"""How far an embedding run is: told to people, and written into its status, from the first batch on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ray_itl.errors import RunDirectoryError, StorageError
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Heartbeat

_TOLD_EVERY_S, _WRITTEN_EVERY_S = 0.5, 2.0


class EmbedProgress:
    """Counts rows of finished parts, and of those that are being embedded; any thread may tell it of them."""

    def __init__(
        self,
        reporter: Reporter,
        status: Heartbeat,
        num_rows: int,
        before: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with `before` of all rows embedded by earlier tries."""
        self._tell = reporter.rows("embedded", num_rows - before)
        self._status, self._num_rows, self._before, self._clock = status, num_rows, before, clock
        self._finished = self._begun = 0
        self._since = clock()
        self._told = self._written = float("-inf")
        self._lock = threading.Lock()
        self._write(0)

    def begun(self, rows: int) -> None:
        """So many rows more of parts that are not finished yet are embedded."""
        with self._lock:
            self._begun += rows
            self._say()

    def all_begun(self, rows: int) -> None:
        """So many rows in all, of parts that are not finished yet and of those of this try that are."""
        with self._lock:
            self._begun = max(rows - self._finished, 0)
            self._say()

    def finished(self, rows: int) -> None:
        """A part of so many rows is written."""
        with self._lock:
            self._finished += rows
            self._begun = max(self._begun - rows, 0)
            self._say(at_once=True)

    def given_up(self) -> None:
        """What was embedded of parts that are not finished is lost."""
        with self._lock:
            self._begun = 0

    def _say(self, at_once: bool = False) -> None:
        done, now = self._finished + self._begun, self._clock()
        if done and (at_once or now - self._told >= _TOLD_EVERY_S):
            self._told = now
            self._tell(done)
        if at_once or now - self._written >= _WRITTEN_EVERY_S:
            self._write(done)

    def _write(self, done: int) -> None:
        self._written = self._clock()
        seconds = self._written - self._since
        rate = done / seconds if seconds > 0 and done else None
        left = self._num_rows - self._before - done
        facts = {
            "state": "running",
            "rows": self._before + done,
            "of": self._num_rows,
            "rows_per_s": rate and round(rate, 1),
            "eta_s": rate and round(left / rate, 1),
        }
        with suppress(RunDirectoryError, StorageError):  # a courtesy: storage that fails for a moment need not end it
            self._status.tell(facts)
