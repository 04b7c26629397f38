"""Curation runs and rounds on MLflow, in a store of files, read back through its client."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_itl.curation.settings import CurationSettings
from ray_itl.experiments.job import run_experiment
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.settings import TrackingSettings
from ray_itl.rounds.settings import FineTuneJobSettings
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files
from tests.rounds.helpers import digits_settings, write_digits

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra mlflow is not installed"),
    # MLflow imports what is deprecated elsewhere, and says of file stores that they are being given up.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


class Store:
    """A store of files, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"file://{folder}"

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self, experiment: str = "ray_itl") -> list[Any]:
        found = self.client.get_experiment_by_name(experiment)
        return [] if found is None else list(self.client.search_runs([found.experiment_id]))

    def curve(self, run: Any, name: str) -> list[tuple[int, float]]:
        return [(metric.step, metric.value) for metric in self.client.get_metric_history(run.info.run_id, name)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Store(tmp_path / "store")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def tracked(files: Files, uri: str, report: bool = False, **changes: Any) -> CurationSettings:
    settings = files.settings(**changes)
    run = replace(settings.run, report=report, map_sample=20)
    return replace(settings, tracking=TrackingSettings(mlflow_uri=uri), run=run)


def test_a_run_has_options_curves_totals_and_its_report(files: Files, store: Store) -> None:
    selection = files.run(tracked(files, store.uri, report=True, n=7))
    (run,) = store.runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert (run.data.params["selection.n"], run.data.params["acquisition.name"]) == ("7", "itl")
    assert (run.data.tags["job"], run.data.tags["results"]) == ("curate", str(files.folder / "run"))
    steps, left = zip(*store.curve(run, "uncertainty_left"), strict=True)
    assert steps == tuple(range(8))
    np.testing.assert_allclose(left, selection.remaining_uncertainty)
    np.testing.assert_allclose([gain for _, gain in store.curve(run, "gain")], selection.gains)
    assert run.data.metrics["total/num_picks"] == 7
    assert run.data.metrics["total/passes"] == selection.stats.passes
    assert [file.path for file in store.client.list_artifacts(run.info.run_id)] == ["report.html"]


@pytest.mark.usefixtures("small_blocks")
def test_a_resumed_run_continues_the_same_run(files: Files, store: Store) -> None:
    with pytest.raises(InterruptedError):
        files.run(tracked(files, store.uri), StopAfter(1))
    (broken,) = store.runs()
    assert broken.info.status == "FAILED"
    files.run(tracked(files, store.uri))
    (run,) = store.runs()
    assert (run.info.run_id, run.info.status) == (broken.info.run_id, "FINISHED")
    files.run(tracked(files, store.uri))
    assert len(store.curve(store.runs()[0], "gain")) == 12


def test_a_run_that_was_deleted_or_is_of_another_experiment_is_begun_anew(files: Files, store: Store) -> None:
    files.run(tracked(files, store.uri))
    memo = files.folder / "run" / "tracking.json"
    for delete in (True, False):
        (run,) = store.runs()
        known = json.loads(memo.read_text())
        if delete:
            store.client.delete_run(run.info.run_id)
        known["MLflow"]["complete"] = False
        memo.write_text(json.dumps(known))
        files.run(tracked(files, store.uri))
        assert (store.runs()[0].info.run_id != run.info.run_id) == delete
    settings = tracked(files, store.uri)
    files.run(replace(settings, tracking=replace(settings.tracking, experiment="another")))
    assert len(store.runs("another")) == 1


def test_a_server_that_does_not_answer_costs_seconds_and_no_picks(files: Files, store: Store) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    listener, began = Listener(), time.monotonic()
    selection = files.run(tracked(files, uri), listener)
    assert time.monotonic() - began < 200
    assert len(selection) == 12
    assert sum(line.startswith("logging to MLflow failed") for line in listener.warnings) == 1
    files.run(tracked(files, store.uri))  # once there is a server, the same command logs the run
    (run,) = store.runs()
    np.testing.assert_allclose([gain for _, gain in store.curve(run, "gain")], selection.gains)


def test_rounds_have_their_scores_and_the_report(tmp_path: Path, store: Store) -> None:
    one = digits_settings(write_digits(tmp_path), tmp_path / "run")
    values = {name: getattr(one, name) for name in one.__dataclass_fields__}
    settings = FineTuneJobSettings(**{**values, "tracking": TrackingSettings(store.uri, "tuning", run_name="digits")})
    for count in (1, 2):
        settings = replace(settings, rounds=replace(settings.rounds, count=count))
        run_experiment(settings, Reporter("quiet"))
    (run,) = store.runs("tuning")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "digits")
    assert run.data.params["rounds.batch"] == "8"
    assert [step for step, _ in store.curve(run, "heldout/accuracy")] == [0, 1, 2]
    assert [step for step, _ in store.curve(run, "num_labelled")] == [0, 1, 2]
    assert [file.path for file in store.client.list_artifacts(run.info.run_id)] == ["report.html"]
