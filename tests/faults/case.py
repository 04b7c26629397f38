"""One case of the harness: what is drawn for it, its tries, and the verdict."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tests.faults import evidence
from tests.faults.evidence import Evidence
from tests.faults.injection import Plan
from tests.faults.tries import BUSY, Try
from tests.faults.world import LEASE_S

Outcome = Literal["resumed", "refused", "survived", "missed", "different"]
MAX_TRIES = 12


@dataclass
class Case:
    """The fault of one number. Everything about it follows from `rng`, and is told in `drawn`."""

    index: int
    kind: str
    rng: np.random.Generator
    folder: Path
    drawn: dict[str, Any] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)

    def draw(self, name: str, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        self.drawn[name] = int(self.rng.integers(low, high + 1))
        return self.drawn[name]

    def choose(self, name: str, options: list[Any]) -> Any:
        """Draw one of some options."""
        self.drawn[name] = options[int(self.rng.integers(len(options)))]
        return self.drawn[name]

    def seconds(self, name: str, longest: float) -> float:
        """Draw seconds from 0."""
        self.drawn[name] = round(float(self.rng.random() * longest), 3)
        return self.drawn[name]

    def plan(self, *places: Path, **what: Any) -> Plan:
        """Return a plan for operations on some places, which notes in this case's folder that it struck."""
        self.folder.mkdir(parents=True, exist_ok=True)
        struck = str(self.folder / f"struck-{len(self.tries)}")
        return Plan([str(place) for place in places], seed=self.index * 100 + len(self.tries), struck=struck, **what)

    def add(self, tried: Try) -> Try:
        """Note a try; DifferentError if it ended in a way that no try may."""
        self.tries.append(tried)
        if complaint := tried.complaint():
            raise DifferentError(complaint)
        return tried

    def until_done(self, again: Callable[[], Try], check: Callable[[], str]) -> Outcome:
        """Check what the tries so far left, and run the same command again until it ends well."""
        while self.tries[-1].exit != 0:
            require(check())
            if len(self.tries) >= MAX_TRIES:
                raise DifferentError(f"it never ends: {self.tries[-1].error}")
            if self.tries[-1].exit == BUSY:
                time.sleep(LEASE_S / 2)
            self.add(again())
        if not any(tried.struck for tried in self.tries):
            return "missed"
        return "resumed" if len(self.tries) > 1 else "survived"

    def clean_up(self) -> None:
        """Remove what the case left."""
        shutil.rmtree(self.folder, ignore_errors=True)


class DifferentError(Exception):
    """Something was lost, doubled, half-written, or ended the wrong way."""


def require(problem: str) -> None:
    """DifferentError if there is a problem."""
    if problem:
        raise DifferentError(problem)


def _clear(case: Case, folder: Path, again: Callable[[], Try]) -> None:
    """Run again while there is something that a killed process, or storage that erred, has left beside the results."""
    while evidence.untidy(folder) and len(case.tries) < MAX_TRIES:
        evidence.made_old(evidence.leavings(folder))
        case.add(again())


def finish_run(case: Case, run: Path, expected: Evidence, again: Callable[[], Try]) -> Outcome:
    """Run again until a run is done; it must be as an undisturbed one."""
    outcome = case.until_done(again, lambda: evidence.run_in_between(run, expected))
    _clear(case, run, again)
    require(evidence.difference(expected, evidence.of_run(run)))
    return outcome


def finish_tick(case: Case, state: Path, ends: Mapping[str, Evidence], again: Callable[[], Try]) -> Outcome:
    """Run again until a tick is done; the state must be as after an undisturbed one."""
    outcome = case.until_done(again, lambda: evidence.state_in_between(state, ends["before"], ends["after"]))
    _clear(case, state, again)
    require(evidence.difference(ends["after"], evidence.of_state(state)))
    return outcome
