"""Tracking a fine-tuning in rounds: its options, the scores of every round, and its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_itl.curation.tracking import option_texts, round_figures
from ray_itl.observability.tracker import Notify, open_tracker, tracked
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.runs.environment import submission_id


class RoundsTracking:
    """Tracks one fine-tuning; does nothing where no tracking is asked for."""

    def __init__(self, settings: FineTuneSettings, warn: Notify) -> None:
        """Take all options. MissingExtraError where a tool is asked for that is not installed."""
        self._settings = settings
        self._folder = Path(str(settings.run.dir))
        self._tracker = open_tracker(settings.tracking, self._folder, warn)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Track the block as a run, which has failed if the block raises, and which `ended` ends."""
        job = {} if (number := submission_id()) is None else {"submission_id": number}
        tags = {"job": "finetune", "results": str(self._folder), **job}
        with tracked(self._tracker, option_texts(self._settings), tags):
            yield

    def round(self, record: Mapping[str, Any]) -> None:
        """Log a round's figures at the round as step, unless an earlier try did."""
        self._tracker.log_step(int(record["round"]), round_figures(record))

    def ended(self, state: str) -> None:
        """End the run, which is finished or awaiting_labels."""
        self._tracker.end("finished" if state == "finished" else "waiting")

    def keep_report(self, state: str) -> None:
        """Keep report.html, which is written when the rounds are over, with the run."""
        report = self._folder / "report.html"
        if report.exists():
            with self.running():
                self._tracker.attach(report)
                self.ended(state)
