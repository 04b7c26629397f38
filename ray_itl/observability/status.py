"""What a run says of itself while it goes on, for whoever waits for it: status.json.

It is written at every change, and again every few seconds for as long as its process lives, so that it stays true.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from ray_itl.errors import RayItlError, RunDirectoryError
from ray_itl.io.credentials import masked
from ray_itl.observability.reporter import Advance
from ray_itl.runs.directory import RunDirectory
from ray_itl.runs.environment import submission_id


@contextmanager
def every(action: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call `action`, which must not raise, every so many seconds in a thread of some name, for a `with` block."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every_s):
            action()

    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


_LOADING_EVERY_S = 1.0
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

    def waiting(self, line: str | None) -> None:
        """Write, on top of what the last status told, what the work waits for; None: for nothing any more."""
        with suppress(RunDirectoryError):  # a courtesy
            self.tell({**self._facts, "waiting": line})

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

        with every(beat, self._every_s, "heartbeat"):
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


Watch = Callable[[Mapping[str, Any]], None]
"""Told every status as it is written; an exception in it ends the run."""


class RunStatus:
    """Writes status.json at every step of a run, after every accepted block of picks, and every few seconds.

    It holds `state` (running, finished, failed or interrupted), `step` (load, select, explain, compare or write: what
    the run is doing), `rows` (of the pool), `rows_loaded` and `load_eta_s` (of them, and the seconds until all are,
    while it loads or embeds them), `num_picked` of `num_asked`, `gain` (of all picks), `passes` (over the pool, in this
    try), `rows_per_s` (scanned, loaded or embedded in this step; null while nothing tells), `eta_s` (seconds until all
    are picked, judged by this try's picks so far; null while none tell), `waiting` (for what, where it waits for room
    on a cluster), `warnings` (where there are any), `error` of a failed or interrupted run, and what `Heartbeat` adds:
    the `time` and who writes. Of a process that was killed it says "running" with a `time` that gets old.
    """

    def __init__(
        self,
        run: RunDirectory | None,
        num_rows: int,
        num_asked: int,
        watch: Watch = lambda _: None,
        clock: Callable[[], float] = time.time,
        warnings: Sequence[str] = (),
    ) -> None:
        self._warnings = warnings
        self._facts = {"rows": num_rows, "num_picked": 0, "num_asked": num_asked, "gain": 0.0, "passes": 0}
        self._rows_per_s: float | None = None
        self._eta_s: float | None = None
        self._watch = watch
        self._clock = clock
        self._step = ""
        self._began: tuple[float, int] | None = None
        self._told_of_rows = 0.0
        self._has_ended = False
        self._run = run
        self._heartbeat = Heartbeat(self._put, clock)

    def step(self, name: str, num_picked: int = 0, gain: float = 0.0) -> None:
        """Say what the run is about to do; `num_picked` rows were picked before, worth `gain` in all."""
        self._step, self._rows_per_s = name, None
        self._told_of_rows = self._clock()
        if num_picked > self._facts["num_picked"]:
            self._facts |= {"num_picked": num_picked, "gain": gain}
        self._began = (self._clock(), int(self._facts["num_picked"]))
        self._write("running")

    def loading(self, facts: Mapping[str, Any]) -> None:
        """Say how far the loading (and embedding) of rows is, which `Reporter.on_rows` is told; once a second."""
        now = self._clock()
        if self._step == "load" and now - self._told_of_rows >= _LOADING_EVERY_S:
            self._told_of_rows, self._rows_per_s = now, facts["rows_per_s"]
            self._write("running", rows_loaded=facts["done"], load_eta_s=facts["eta_s"])

    def picked(self, num_picked: int, gain: float, passes: int) -> Advance:
        """Say that there are new picks, and return how far the run is.

        Args:
            num_picked: Rows picked by now.
            gain: What the new ones are worth together.
            passes: Over the pool, in this try.
        """
        assert self._began is not None, "picks come in a step"
        since, before = self._began
        elapsed, new = self._clock() - since, num_picked - before
        left = self._facts["num_asked"] - num_picked
        self._facts |= {"num_picked": num_picked, "gain": self._facts["gain"] + gain, "passes": passes}
        self._rows_per_s = round(passes * self._facts["rows"] / elapsed, 1) if elapsed > 0 else None
        self._eta_s = round(left * elapsed / new, 1) if new > 0 else None
        self._write("running")
        return Advance(self._facts["gain"], self._rows_per_s, self._eta_s)

    def adding(self, **facts: Any) -> None:
        """Say more of the run, from the next writing on."""
        self._facts |= facts

    def waiting(self, line: str | None) -> None:
        """Say what the run waits for; None: for nothing any more."""
        self._write("running", waiting=line)

    def finished(self, num_picked: int) -> None:
        """Say that all results are written."""
        self._facts["num_picked"], self._rows_per_s, self._eta_s = num_picked, None, 0
        self._write("finished")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Keep the status fresh during a `with` block, and where that fails say why, and in which step."""
        with self._heartbeat.beating(), self.telling_failure():
            yield

    @contextmanager
    def telling_failure(self) -> Iterator[None]:
        """Say of an exception what it is at once, before what the `with` block is in is cleared away."""
        try:
            yield
        except BaseException as error:
            self._eta_s = None
            if not self._has_ended:
                with suppress(RayItlError):  # what went wrong first is what matters
                    self._write(**ending(error))
            raise

    def _put(self, facts: Mapping[str, Any]) -> None:
        # While the run goes on its status is a courtesy: storage that fails for a moment need not end it.
        with suppress(RunDirectoryError) if facts["state"] == "running" else nullcontext():
            if self._run is not None:
                self._run.set_status(**facts)

    def _write(self, state: str, **more: Any) -> None:
        self._has_ended = state != "running"
        facts = {"state": state, "step": self._step, **self._facts, "rows_per_s": self._rows_per_s}
        warned = {"warnings": list(self._warnings)} if self._warnings else {}
        self._watch(self._heartbeat.tell({**facts, "eta_s": self._eta_s, **warned, **more}))
