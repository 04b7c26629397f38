"""What a run says of itself while it goes on, for whoever waits for it: status.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from ray_itl.errors import RayItlError, RunDirectoryError
from ray_itl.heartbeat import Heartbeat, ending
from ray_itl.io.run_directory import RunDirectory
from ray_itl.progress import Advance

Watch = Callable[[Mapping[str, Any]], None]
"""Told every status as it is written; an exception in it ends the run."""


class RunStatus:
    """Writes status.json at every step of a run, after every accepted block of picks, and every few seconds.

    It holds `state` (running, finished, failed or interrupted), `step` (load, select, explain, compare or write: what
    the run is doing), `rows` (of the pool), `num_picked` of `num_asked`, `gain` (of all picks), `passes` (over the
    pool, in this try), `rows_per_s` (scanned in this step; null while nothing tells), `eta_s` (seconds until all are
    picked, judged by this try's picks so far; null while none tell), `error` of a failed or interrupted run, and what
    `Heartbeat` adds: the `time` and who writes. Of a process that was killed it says "running" with a `time` that gets
    old.
    """

    def __init__(
        self,
        run: RunDirectory | None,
        num_rows: int,
        num_asked: int,
        watch: Watch = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._facts = {"rows": num_rows, "num_picked": 0, "num_asked": num_asked, "gain": 0.0, "passes": 0}
        self._rows_per_s: float | None = None
        self._eta_s: float | None = None
        self._watch = watch
        self._clock = clock
        self._step = ""
        self._began: tuple[float, int] | None = None
        self._has_ended = False
        self._run = run
        self._heartbeat = Heartbeat(self._put, clock)

    def step(self, name: str, num_picked: int = 0, gain: float = 0.0) -> None:
        """Say what the run is about to do; `num_picked` rows were picked before, worth `gain` in all."""
        self._step, self._rows_per_s = name, None
        if num_picked > self._facts["num_picked"]:
            self._facts |= {"num_picked": num_picked, "gain": gain}
        self._began = (self._clock(), int(self._facts["num_picked"]))
        self._write("running")

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
        self._watch(self._heartbeat.tell({**facts, "eta_s": self._eta_s, **more}))
