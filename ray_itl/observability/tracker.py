"""Logging one run wherever it is asked for, without ever being a reason for the run to fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_itl.io.atomic import write_json
from ray_itl.io.credentials import one_line
from ray_itl.observability.mlflow_log import MlflowLog
from ray_itl.observability.run_log import Point, RunLog, State
from ray_itl.observability.settings import TrackingSettings
from ray_itl.observability.tensorboard_log import TensorBoardLog
from ray_itl.observability.wandb_log import WandbLog
from ray_itl.runs.directory import TRACKING_FILE

Notify = Callable[[str], None]


class Tracker:
    """The logs of one run; one that fails is told of once and left out from then on.

    tracking.json in the run directory keeps, for every log, how to join its run again (`run`), the last step of a round
    logged (`last_step`) and whether everything is (`complete`), so that a later try neither repeats nor omits anything.
    """

    def __init__(self, logs: Sequence[RunLog], memo: Path | None, warn: Notify) -> None:
        self._logs = list(logs)
        self._memo = memo
        self._known: dict[str, dict[str, Any]] = _read(memo)
        self._warn = warn

    @property
    def pending(self) -> bool:
        """Whether a log lacks anything of a run that is finished."""
        return any(not self._is_complete(log) for log in self._logs)

    def begin(self, options: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Open or join the run in every log."""

        def open_run(log: RunLog) -> None:
            before = self._of(log).get("run")
            run = dict(log.begin(options, tags))
            if run != before:
                self._known[log.name] = {"run": run}
            self._remember()

        self._each(open_run)

    def log(self, points: Sequence[Point]) -> None:
        """Log figures."""
        self._each(lambda log: log.log(points))

    def log_step(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of a step, but where an earlier try did."""

        def once(log: RunLog) -> None:
            if step > self._of(log).get("last_step", -1):
                log.log([(step, figures)])
                self._of(log)["last_step"] = step
                self._remember()

        self._each(once)

    def attach(self, path: Path) -> None:
        """Keep a file with the run."""
        self._each(lambda log: log.attach(path))

    def end(self, state: State) -> None:
        """Say how the run ended; after "finished" nothing is pending in the logs that are left."""

        def close(log: RunLog) -> None:
            log.end(state)
            self._of(log)["complete"] = state == "finished"
            self._remember()

        self._each(close)

    def _each(self, action: Callable[[RunLog], None]) -> None:
        for log in list(self._logs):
            try:
                action(log)
            except Exception as error:  # whatever a tracking library raises
                self._logs.remove(log)
                why = f"{type(error).__name__}: {one_line(str(error))}"
                self._warn(f"logging to {log.name} failed, the run goes on without it ({why[:400]})")

    def _is_complete(self, log: RunLog) -> bool:
        known = self._of(log)
        return bool(known.get("complete")) and log.place.items() <= known.get("run", {}).items()

    def _of(self, log: RunLog) -> dict[str, Any]:
        return self._known.setdefault(log.name, {})

    def _remember(self) -> None:
        if self._memo is not None:
            write_json(self._memo, self._known)


def open_tracker(settings: TrackingSettings, run: Path | None, warn: Notify) -> Tracker:
    """Return the tracker of the run in a directory; nothing is contacted or written yet.

    Raises:
        MissingExtraError: a tool is asked for that is not installed.
        ConfigError: a tool is asked for that this process may not log to.
    """
    memo = None if run is None else run / TRACKING_FILE
    known, name = _read(memo), settings.run_name or ("selection" if run is None else run.name)
    logs: list[RunLog] = []
    if settings.mlflow_uri is not None:
        before = known.get(MlflowLog.name, {}).get("run", {})
        logs.append(MlflowLog(settings.mlflow_uri, settings.experiment, name, before))
    if settings.tensorboard_dir is not None:
        before = known.get(TensorBoardLog.name, {}).get("run", {})
        logs.append(TensorBoardLog(Path(settings.tensorboard_dir) / name, before))
    if settings.wandb_project is not None:
        before = known.get(WandbLog.name, {}).get("run", {})
        logs.append(WandbLog(settings.wandb_project, settings.wandb_mode, run, name, before))
    return Tracker(logs, memo, warn)


@contextmanager
def tracked(tracker: Tracker, options: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[None]:
    """Begin a run in the logs, and end it as failed where the block raises; otherwise the block ends it."""
    tracker.begin(options, tags)
    try:
        yield
    except BaseException:
        tracker.end("failed")
        raise


def _read(memo: Path | None) -> dict[str, dict[str, Any]]:
    """Return what an earlier try remembered; a damaged file counts as none, for it is no part of the result."""
    try:
        known = json.loads(memo.read_text("utf-8")) if memo is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and all(isinstance(each, dict) for each in known.values()) else {}
