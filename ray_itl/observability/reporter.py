"""Telling how a run is going, and keeping the seconds of each of its steps."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ray_itl.observability.console import Event, FinalLine, JobSummary, JsonLines, Lines, Renderer, check_log
from ray_itl.text import duration, format_size

if TYPE_CHECKING:
    from ray_itl.core.result import Progress


@dataclass(frozen=True)
class Advance:
    """How far a selection is and how fast it goes."""

    gain: float
    """Of all picks so far."""
    rows_per_s: float | None
    """Rows scanned a second in this step; None while nothing tells."""
    eta_s: float | None
    """Seconds until all are picked; None while nothing tells."""


_SOON_S, _EVERY_S = 1.0, 0.5
"""What takes less than the one is not told of, and the rest no more often than the other."""
_PACE_S = 60.0
"""A pace is that of so long, since rows that are found again come quicker than those that are embedded."""


class Reporter:
    """Makes events of what a run does and gives them to the form of telling that run.log asks for."""

    def __init__(self, log: str = "lines", renderer: Renderer | None = None) -> None:
        """Tell in a form, a renderer or one by name (see `choose_renderer`). ConfigError for one that there is not."""
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        """All that was warned of, each once, in order."""
        self._renderer = renderer or (Lines() if log == "lines" else choose_renderer(log))
        self._step: str | None = None
        self.on_waiting: Callable[[str | None], object] = lambda _: None
        """Told what the run waits for, and None once it does no longer: for its status."""
        self.on_rows: Callable[[Mapping[str, Any]], object] = lambda _: None
        """Told how many rows are done, of how many, and how fast: for its status."""

    def waiting(self, line: str | None) -> None:
        """Tell what the run waits for; None: it goes on."""
        self.info("there is room now: going on" if line is None else line)
        self.on_waiting(line)

    def info(self, line: str) -> None:
        """Tell people something."""
        self._tell("message", line)

    def warn(self, line: str) -> None:
        """Tell people, in every form, of something that may not be as meant; the job's last line counts such.

        Args:
            line: A sentence that says what, and what to do. Told once, however often it comes.
        """
        if line not in self.warnings:
            self.warnings.append(line)
            self._tell("warning", line)

    @contextmanager
    def stage(self, name: str, announce: str = "") -> Iterator[None]:
        """Time a stage; say what it is about to do."""
        outer, self._step = self._step, name
        if name not in self.seconds:  # some stages come in parts
            self._tell("step")
        if announce:
            self.info(announce)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self._step = outer
            self._renderer.clear()

    def rows(self, what: str, total: int, noun: str = "rows") -> Callable[[int], None]:
        """Return a callback for the number of rows (or what the noun says) done so far."""
        steps = deque([(time.perf_counter(), 0)])

        def report(done: int) -> None:
            now = time.perf_counter()
            while len(steps) > 1 and now - steps[1][0] > _PACE_S:
                steps.popleft()
            since, before = steps[0]
            steps.append((now, done))
            rate = (done - before) / max(now - since, 1e-9)
            eta_s = (total - done) / rate if rate > 0 else None
            pace = f" ({short(rate)} {noun}/s{_left(eta_s)})" if now > since else ""
            text = f"  {what} {done:,} of {total:,} {noun}{pace}"
            facts = {"done": done, "of": total, "rows_per_s": round(rate, 1), "eta_s": eta_s and round(eta_s, 1)}
            self._tell("rows", text, facts, passing=True)
            self.on_rows(facts)

        return report

    def rows_of(self, verb: str) -> Callable[[str, int, int], None]:
        """Return a callback for rows of several kinds: what they are, how many are done, of how many."""
        reports: dict[str, Callable[[int], None]] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in reports:
                reports[what] = self.rows(f"{verb} {what}:", total)
            if done < total:  # what is there at once needs no words
                reports[what](done)

        return report

    def texts(self) -> Callable[[str, int, int], None]:
        """Return a callback for how many bytes of a text file have been parsed, of how many; its calls are thinned."""
        began: dict[str, float] = {}
        last = 0.0

        def report(name: str, done: int, total: int) -> None:
            nonlocal last
            now = time.perf_counter()
            seconds = max(now - began.setdefault(name, now), 1e-9)
            if seconds < _SOON_S or now - last < _EVERY_S:
                return
            last, rate = now, done / seconds
            eta_s = (total - done) / rate if rate > 0 else None
            text = f"  parsing {name}, once: {done / max(total, 1):.0%} ({format_size(rate)}/s{_left(eta_s)})"
            self._tell("text", text, {"file": name, "done": done, "of": total}, passing=True)

        return report

    def picks(self, progress: Progress, advance: Advance) -> None:
        """Report accepted picks: how far the selection is."""
        picked, asked, last, passes = (
            progress.num_picked,
            progress.num_asked,
            progress.new[-1].gain,
            progress.stats.passes,
        )
        rate = "" if advance.rows_per_s is None else f", {short(advance.rows_per_s)} rows/s"
        text = f"  picked {picked:,} of {asked:,}, gain {advance.gain:.4g} (last {last:.3g}), {plural_passes(passes)}"
        facts = {
            "picked": picked,
            "of": asked,
            "gain": advance.gain,
            "last_gain": last,
            "passes": passes,
            "rows_per_s": advance.rows_per_s,
            "eta_s": advance.eta_s,
        }
        self._tell("picks", text + rate + _left(advance.eta_s), facts, passing=picked < asked)

    def round(self, text: str, facts: Mapping[str, Any]) -> None:
        """Report a finished round of a fine-tuning."""
        self._tell("round", text, facts)

    def finish(self, ending: JobSummary) -> None:
        """Say what the job did, what it warned of, where its files are and what to do next."""
        self._renderer.finish(replace(ending, warnings=(*ending.warnings, *self.warnings)))

    def _tell(self, name: str, text: str = "", facts: Mapping[str, Any] | None = None, passing: bool = False) -> None:
        step = {} if self._step is None else {"step": self._step}
        self._renderer.emit(Event(name, text, {**step, **(facts or {})}, passing))


def short(rate: float) -> str:
    """Return a rate to two digits or three, as 850, 12.3k or 4.6M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.3g}{suffix}"
    return f"{rate:.3g}"


def plural_passes(count: int) -> str:
    """Return 1 pass, 2 passes."""
    return f"{count:,} pass{'es' * (count != 1)}"


def _left(eta_s: float | None) -> str:
    return f", {duration(round(eta_s))} left" if eta_s and eta_s >= 0.5 else ""


def choose_renderer(log: str) -> Renderer:
    """Return the form of telling for run.log.

    lines: plain lines; quiet: warnings, errors and the last line only; json: one JSON object a line; auto: a line that
    is drawn anew in place where standard error is a terminal, else lines.

    Raises:
        ConfigError: another word.
    """
    check_log(log)
    if log == "auto" and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        # Imported here because most runs have no terminal to draw on.
        from ray_itl.observability.live import LiveLine

        return LiveLine()
    return {"json": JsonLines, "quiet": FinalLine}.get(log, Lines)()
