"""A run on MLflow, through the client alone: nothing of this process is changed for other users of MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_itl.extras import load_extra
from ray_itl.observability.run_log import Point, State

_MAX_METRICS, _MAX_PARAMS, _LONGEST_PARAM = 1000, 100, 6000  # what a server takes in one request
_STATES = {"finished": "FINISHED", "failed": "FAILED", "waiting": "RUNNING"}
_ENVIRONMENT = {
    # A server that is down is to be noticed within seconds; the default waits for minutes at every call.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Nothing goes anywhere but to the server that was asked for.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowLog:
    """One run of an experiment."""

    name = "MLflow"

    def __init__(self, uri: str, experiment: str, run_name: str, joined: Mapping[str, str]) -> None:
        """Name the server and the run; `joined` is what `begin` returned earlier, or empty.

        MissingExtraError where MLflow is not installed.
        """
        for variable, value in _ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        self._mlflow: Any = load_extra("mlflow", "tracking.mlflow_uri", "mlflow")
        self._uri, self._experiment, self._run_name = uri, experiment, run_name
        self._joined = dict(joined)
        self._client: Any = None
        self._run_id = ""

    @property
    def place(self) -> Mapping[str, str]:
        """The server and the experiment."""
        return {"uri": self._uri, "experiment": self._experiment}

    def begin(self, options: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, str]:
        """Continue the run that was begun on this server for this experiment, or begin one."""
        self._client = self._mlflow.MlflowClient(self._uri)
        if not (self.place.items() <= self._joined.items() and self._rejoin()):
            self._run_id = self._create(tags)
        known = self._client.get_run(self._run_id).data.params
        # An option once logged cannot be changed; those of a resumed run may differ in what decides nothing.
        new = [(name, value[:_LONGEST_PARAM]) for name, value in options.items() if name not in known]
        for part in _parts(new, _MAX_PARAMS):
            self._client.log_batch(self._run_id, params=[self._mlflow.entities.Param(*pair) for pair in part])
        return {**self.place, "run_id": self._run_id}

    def log(self, points: Sequence[Point]) -> None:
        """Log figures, as many to a request as a server takes."""
        now = int(time.time() * 1000)
        metrics = [
            self._mlflow.entities.Metric(name, float(value), now, step)
            for step, values in points
            for name, value in values.items()
        ]
        for part in _parts(metrics, _MAX_METRICS):
            self._client.log_batch(self._run_id, metrics=part)

    def attach(self, path: Path) -> None:
        """Keep a file as an artifact."""
        self._client.log_artifact(self._run_id, str(path))

    def end(self, state: State) -> None:
        """Set the run's status."""
        if state == "waiting":
            self._client.update_run(self._run_id, status=_STATES[state])
        else:
            self._client.set_terminated(self._run_id, status=_STATES[state])

    def _create(self, tags: Mapping[str, str]) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment)
        number = self._client.create_experiment(self._experiment) if experiment is None else experiment.experiment_id
        return self._client.create_run(number, run_name=self._run_name, tags=dict(tags)).info.run_id

    def _rejoin(self) -> bool:
        """Whether the run begun earlier is still there; if so it goes on."""
        try:
            run = self._client.get_run(self._joined["run_id"])
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        if run.info.lifecycle_stage != "active":
            return False
        self._run_id = run.info.run_id
        self._client.update_run(self._run_id, status="RUNNING")
        return True


def _parts(values: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
