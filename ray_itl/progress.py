"""Telling people how a run is going: lines on standard error, at most a few a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray_itl.core.greedy import Progress


class Reporter:
    """Prints stages and picks, and keeps the seconds of each stage."""

    def __init__(self, quiet: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._quiet = quiet
        self._last = 0.0

    def say(self, line: str) -> None:
        """Print a line unless quiet."""
        if not self._quiet:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    @contextmanager
    def stage(self, name: str, announce: str = "") -> Iterator[None]:
        """Time a stage; say what it is about to do."""
        if announce:
            self.say(announce)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def rows(self, what: str, total: int) -> Callable[[int], None]:
        """Return a callback for the number of rows done so far."""
        began = time.perf_counter()

        def report(done: int) -> None:
            if self._due():
                rate = done / max(time.perf_counter() - began, 1e-9)
                self.say(f"  {what} {done:,} of {total:,} rows ({rate:,.0f} rows/s)")

        return report

    def picks(self, progress: Progress, eta_s: float | None) -> None:
        """Report accepted picks, and the seconds until all are picked where they are known."""
        if not self._due() and progress.num_picked < progress.num_asked:
            return
        eta = f", about {eta_s:.0f} s left" if eta_s else ""
        self.say(
            f"  picked {progress.num_picked:,} of {progress.num_asked:,}, last gain {progress.new[-1].gain:.4g}, "
            f"{progress.stats.passes} passes{eta}"
        )

    def _due(self) -> bool:
        now = time.perf_counter()
        if now - self._last < 1.0:
            return False
        self._last = now
        return True
