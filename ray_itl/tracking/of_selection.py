"""Tracking a curation run: its options, how it goes, its curves, and its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_itl.command import submission_id
from ray_itl.selection import Selection
from ray_itl.settings import CurationSettings
from ray_itl.tracking.figures import option_texts, progress_figures, selection_points
from ray_itl.tracking.tracker import Say, open_tracker, tracked

_EVERY_S = 5.0


class SelectionTracking:
    """Tracks one selection that has a run directory; does nothing where no tracking is asked for."""

    def __init__(self, settings: CurationSettings, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        """Take all options. MissingExtraError where a tool is asked for that is not installed."""
        self._settings = settings
        self._folder = Path(str(settings.run.dir))
        self._tracker = open_tracker(settings.tracking, self._folder, say)
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
