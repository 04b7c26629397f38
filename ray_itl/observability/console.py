"""What a run tells on the standard streams: plain lines and an ending for people, JSON objects for machines.

An event is told once in words and once in figures; how often progress is told depends on who reads. A stream that can
no longer be written ends no run: the run is worth more than its log.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from ray_itl.errors import ConfigError
from ray_itl.text import plural


@dataclass(frozen=True)
class Event:
    """One thing told."""

    name: str
    """message, warning, step, rows, picks or round."""
    text: str = ""
    """For people; empty where there is nothing to say to them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For machines: numbers, texts, and lists and mappings of them."""
    passing: bool = False
    """Whether the next event makes this one worthless, as with progress: tellers may leave it out."""

    @property
    def words(self) -> str:
        """Text as people get it: a warning says that it is one."""
        return f"warning: {self.text}" if self.name == "warning" else self.text


@dataclass(frozen=True)
class JobSummary:
    """What a job says once it is done."""

    headline: str
    """What happened, in one line."""
    details: str = ""
    """Further lines for people: figures, where the files are, what to do next."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where the files are; `results` is the place of them all."""
    warnings: Sequence[str] = ()
    """What may not be as meant: all that was warned of while the job ran."""

    @property
    def line(self) -> str:
        """All that must be known, in one line: how many warnings there were, too."""
        count = f"; {plural(len(self.warnings), 'warning')}" if self.warnings else ""
        where = self.paths.get("results")
        return self.headline + count + ("" if where is None else f"; results: {where}")

    @property
    def text(self) -> str:
        """All lines for people, the warnings first, since their own lines may be far above by now."""
        return "\n".join([self.headline, *(f"warning: {each}" for each in self.warnings), *self.details.splitlines()])


class Renderer(Protocol):
    """A form of telling."""

    def emit(self, event: Event) -> None:
        """Tell an event, or leave it out where it is passing and one was told just now."""
        ...

    def clear(self) -> None:
        """A step has ended, by success or failure: leave nothing half-drawn."""
        ...

    def finish(self, ending: JobSummary) -> None:
        """Tell what the job did, on standard output."""
        ...


class Throttle:
    """Says whether progress is due: `every` seconds after the last, or `growth` of the time gone, if that is longer.

    With a growth of 0.1 the lines of a run grow with the logarithm of its time: an hour has about 60, a day 90.
    """

    def __init__(self, every: float, growth: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._growth = growth
        self._clock = clock
        self._began = clock()
        self._due = self._began

    def ready(self) -> bool:
        """Whether to tell now; if so, the next is due later."""
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + max(self._every, self._growth * (now - self._began))
        return True


def write_line(stream: TextIO | None, line: str) -> None:
    """Write a line at once; a stream that is closed, full or not there does not end the run, nor what it cannot encode.

    A process that was started without a standard stream has None in its place.
    """
    if stream is None:
        return
    with suppress(OSError, ValueError):
        encoding = stream.encoding or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()


class JsonLines:
    """Every event as an object with `event`, `time` (seconds since 1970), its facts and, for people, `message`.

    Progress comes at most once a second. The last object has `event` "finished" and the `paths` of the results.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._throttle = Throttle(every=1.0)

    def emit(self, event: Event) -> None:
        """Write the event."""
        if not event.passing or self._throttle.ready():
            self._write(event.name, event.text, event.facts)

    def clear(self) -> None:
        """Nothing is ever half-drawn."""

    def finish(self, ending: JobSummary) -> None:
        """Write the ending."""
        warned = {"warnings": list(ending.warnings)} if ending.warnings else {}
        self._write("finished", ending.headline, {**ending.facts, **warned, "paths": dict(ending.paths)})

    def _write(self, name: str, text: str, facts: Mapping[str, Any]) -> None:
        message = {"message": text.strip()} if text.strip() else {}
        write_line(sys.stdout, json_line({"event": name, "time": round(self._clock(), 3), **facts, **message}))


def json_line(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON in one line of ASCII; what JSON has no number for becomes null, other values their text."""
    return json.dumps(_plain(facts), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):  # NumPy's own float64 among them
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


class Lines:
    """One line for what happens, and now and then one for progress."""

    def __init__(self) -> None:
        self._throttle = Throttle(every=1.0, growth=0.1)

    def emit(self, event: Event) -> None:
        """Write the event's words, if it has any."""
        if event.text and (not event.passing or self._throttle.ready()):
            write_line(sys.stderr, event.words)

    def clear(self) -> None:
        """Nothing is ever half-drawn."""

    def finish(self, ending: JobSummary) -> None:
        """Write the ending, after an empty line that sets it off."""
        write_line(sys.stdout, f"\n{ending.text}")


class FinalLine:
    """Only one line, at the end, on standard output, and warnings on standard error: for schedulers."""

    def emit(self, event: Event) -> None:
        """Write warnings, and nothing else."""
        if event.name == "warning":
            write_line(sys.stderr, event.words)

    def clear(self) -> None:
        """Nothing is ever half-drawn."""

    def finish(self, ending: JobSummary) -> None:
        """Write the ending in one line."""
        write_line(sys.stdout, ending.line)


class Silence:
    """Nothing at all: for parts of a job that says itself how they went."""

    def emit(self, event: Event) -> None:
        """Say nothing."""

    def clear(self) -> None:
        """Nothing is ever half-drawn."""

    def finish(self, ending: JobSummary) -> None:
        """Say nothing."""


LOGS = ("auto", "lines", "quiet", "json")


def check_log(log: object) -> None:
    """Raise ConfigError unless `log` is a value that the option run.log can have."""
    if log not in LOGS:
        raise ConfigError(f"run.log={log!r} cannot be used: use one of {', '.join(LOGS)}")
