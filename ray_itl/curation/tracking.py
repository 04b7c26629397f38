"""Tracking a curation run: its options as text, figures by step, its curves, and its report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ray_itl.curation.settings import CurationSettings
from ray_itl.observability.run_log import Point
from ray_itl.observability.tracker import Notify, open_tracker, tracked
from ray_itl.runs.environment import submission_id
from ray_itl.selection import Selection

_MAX_STEPS = 1000


def option_texts(settings: Any) -> dict[str, str]:
    """Return every option of some settings, a dataclass of groups, by its name, as in "selection.n"."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in _leaves(asdict(settings))}


def selection_points(selection: Selection) -> list[Point]:
    """Return the curves of a selection, step k being after k picks (at most 1,000 of them), and its totals."""
    n = len(selection)
    steps = np.unique(np.linspace(0, n, min(n + 1, _MAX_STEPS)).astype(int)).tolist()
    gains, summed = selection.gains, np.cumsum(selection.gains)
    points: list[Point] = []
    for step in steps:
        figures = {"uncertainty_left": float(selection.remaining_uncertainty[step])}
        if step:
            figures |= {"gain": float(gains[step - 1]), "cumulative_gain": float(summed[step - 1])}
        points.append((step, figures))
    metrics = selection.metrics
    totals = {f"total/{name}": float(metrics[name]) for name in ("num_picks", "total_gain", "passes", "num_rows")}
    seconds = {f"seconds/{name}": float(value) for name, value in metrics["seconds"].items()}
    return [*points, (n, {**totals, "total/seconds": sum(seconds.values()), **seconds})]


def progress_figures(status: Mapping[str, Any]) -> dict[str, float]:
    """Return what the status of a run says of its progress."""
    names = ("gain", "passes", "rows_per_s", "eta_s")
    return {f"progress/{name}": float(status[name]) for name in names if status.get(name) is not None}


def round_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a round's record, nested ones with a slash; what is no finite number is left out."""
    flat = {name.replace(".", "/"): value for name, value in _leaves(record) if name != "round"}
    return {
        name: float(value)
        for name, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _leaves(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found += _leaves(inner, f"{prefix}{name}.")
        else:
            found.append((prefix + str(name), inner))
    return found


_EVERY_S = 5.0


class SelectionTracking:
    """Tracks one selection that has a run directory; does nothing where no tracking is asked for."""

    def __init__(self, settings: CurationSettings, warn: Notify, clock: Callable[[], float] = time.monotonic) -> None:
        """Take all options. MissingExtraError where a tool is asked for that is not installed."""
        self._settings = settings
        self._folder = Path(str(settings.run.dir))
        self._tracker = open_tracker(settings.tracking, self._folder, warn)
        self._clock = clock
        self._due = clock() + _EVERY_S

    @contextmanager
    def running(self) -> Iterator[None]:
        """Track the block as a run, which has failed if the block raises, and which `finished` ends."""
        with tracked(self._tracker, option_texts(self._settings), self._tags()):
            yield

    def watch(self, status: Mapping[str, Any]) -> None:
        """Log the progress that a status of the run tells, now and then."""
        if status.get("step") == "select" and self._clock() >= self._due:
            self._tracker.log([(status["num_picked"], progress_figures(status))])
            self._due = self._clock() + _EVERY_S

    def finished(self, selection: Selection) -> None:
        """Log the curves and totals, keep the report, and end the run."""
        self._tracker.log(selection_points(selection))
        report = self._folder / "report.html"
        if report.exists():
            self._tracker.attach(report)
        self._tracker.end("finished")

    def catch_up(self, selection: Selection) -> None:
        """Log a run that finished earlier wherever it is not logged, or not to its end."""
        if self._tracker.pending:
            with self.running():
                self.finished(selection)

    def _tags(self) -> dict[str, str]:
        state, tick = self._settings.state.dir, self._settings.state.tick
        place = {"results": str(self._folder)} if state is None else {"state": state, "tick": str(tick)}
        job = {} if (number := submission_id()) is None else {"submission_id": number}
        return {"job": "curate", **place, **job}
