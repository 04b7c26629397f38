"""A status that stays true: written at every change, and again every few seconds for as long as its process lives."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ray_itl.command import submission_id
from ray_itl.errors import RayItlError
from ray_itl.io.beats import repeating
from ray_itl.io.credentials import masked

EVERY_S = 15.0
"""A process that lives writes its status at least this often, unless the filesystem errs."""


class Heartbeat:
    """Writes a status with the time, and who writes it: `submission_id` (of the Ray job, or null), `host` and `pid`.

    A status that says "running" is true as long as its `time` (seconds since 1970) is recent. A process that was killed
    cannot say so: its last status stays, and gets old.
    """

    def __init__(
        self,
        write: Callable[[Mapping[str, Any]], object],
        clock: Callable[[], float] = time.time,
        check: Callable[[], object] = lambda: None,
        every_s: float = EVERY_S,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            write: Writes a status, by one thread at a time.
            clock: Seconds since 1970.
            check: Raises an error of ours where a status must not be repeated, as it is another process's by now.
            every_s: Seconds between repetitions.
        """
        self._write = write
        self._clock = clock
        self._check = check
        self._every_s = every_s
        self._facts: dict[str, Any] = {}
        self._writing = threading.Lock()

    def tell(self, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write a status, and repeat it from now on while its `state` is "running"; returns what was written."""
        with self._writing:
            self._facts = dict(facts)
            return self._put()

    def end(self, error: BaseException) -> Mapping[str, Any]:
        """Write that an exception ended the work, on top of what the last status told."""
        return self.tell({**self._facts, **ending(error)})

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Repeat the status in a thread until the `with` block ends."""

        def beat() -> None:
            with suppress(RayItlError), self._writing:  # a filesystem that errs: the next beat may succeed
                if self._facts.get("state") == "running":
                    self._check()
                    self._put()

        with repeating(beat, self._every_s, "heartbeat"):
            yield

    def _put(self) -> Mapping[str, Any]:
        who = {"submission_id": submission_id(), "host": socket.gethostname(), "pid": os.getpid()}
        status = {**self._facts, **who, "time": self._clock()}
        self._write(status)
        return status


def ending(error: BaseException) -> dict[str, str]:
    """Return what a status says of work that an exception ended: interrupted by a signal, or failed."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        signal = "SIGINT" if isinstance(error, KeyboardInterrupt) else "SIGTERM"
        return {"state": "interrupted", "error": f"stopped by {signal}: the same command goes on from here"}
    return {"state": "failed", "error": masked(f"{type(error).__name__}: {error}")}
