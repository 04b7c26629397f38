"""Curation runs and rounds on Weights & Biases, offline, read back from the files that `wandb sync` would send."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_itl import ActiveFineTuner, ConfigError, InputError, MissingExtraError
from ray_itl.curation.settings import CurationSettings
from ray_itl.observability.settings import TrackingSettings
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files
from tests.observability.logs import OfflineRuns
from tests.rounds.helpers import digits_settings, write_digits

pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def tracked(files: Files, mode: str | None = "offline", **changes: Any) -> CurationSettings:
    return files.settings(**changes, tracking={"wandb_project": "team/picks", "wandb_mode": mode})


def test_a_run_has_its_options_its_curves_its_totals_and_its_report(files: Files) -> None:
    settings = tracked(files, n=7)
    selection = files.run(replace(settings, run=replace(settings.run, report=True, map_sample=20)))
    runs = OfflineRuns(files.folder / "run")
    assert runs.names == {"picks/run"}
    assert runs.options["selection.n"] == "7"
    assert runs.options["results"] == str(files.folder / "run")
    steps, left = zip(*runs.figures["uncertainty_left"], strict=True)
    assert steps == tuple(range(8))
    np.testing.assert_allclose(left, selection.remaining_uncertainty)
    np.testing.assert_allclose([gain for _, gain in runs.figures["gain"]], selection.gains)
    assert runs.figures["total/num_picks"] == [(7, 7.0)]
    assert "report.html" in runs.files
    assert (runs.states[-1], runs.codes) == ("finished", [0])


@pytest.mark.usefixtures("small_blocks")
def test_a_resumed_run_is_one_run_and_a_finished_one_is_not_logged_again(files: Files) -> None:
    with pytest.raises(InterruptedError):
        files.run(tracked(files), StopAfter(1))
    broken = OfflineRuns(files.folder / "run")
    assert (broken.states[-1], broken.codes) == ("failed", [1])
    files.run(tracked(files))
    runs = OfflineRuns(files.folder / "run")
    assert len(set(runs.ids)) == 1
    assert len(runs.figures["gain"]) == 12
    assert runs.codes == [1, 0]
    files.run(tracked(files))
    assert OfflineRuns(files.folder / "run").codes == [1, 0]
    known = json.loads((files.folder / "run" / "tracking.json").read_text())["Weights & Biases"]
    assert known == {"run": {"project": "team/picks", "run_id": runs.ids[0]}, "complete": True}


def test_who_is_not_logged_in_is_told_before_anything_is_done(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.wandb_project=team/picks .*wandb login.*wandb_mode=offline"):
        files.run(tracked(files, mode=None))
    assert not (files.folder / "run").exists()


def test_the_environment_may_say_offline(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    files.run(tracked(files, mode=None))
    assert OfflineRuns(files.folder / "run").codes == [0]


def test_what_fails_is_told_of_once_and_the_selection_is_made(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb
    from wandb.errors import CommError

    def fail(**_: Any) -> None:
        raise CommError("no answer")

    monkeypatch.setattr(wandb, "init", fail)
    listener = Listener()
    assert len(files.run(tracked(files), listener)) == 12
    (warning,) = [line for line in listener.warnings if "Weights & Biases" in line]
    assert warning.startswith("logging to Weights & Biases failed, the run goes on without it (CommError: no answer")
    monkeypatch.undo()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    files.run(tracked(files))
    assert len(OfflineRuns(files.folder / "run").figures["gain"]) == 12


def test_a_library_that_is_missing_is_named_before_anything_is_done(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r'wandb_project needs wandb.*"ray_itl\[wandb\]"'):
        files.run(tracked(files))
    assert not (files.folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wandb_project": "a/b/c"}, r"tracking\.wandb_project='a/b/c' cannot be used: give a project"),
        ({"wandb_project": "https://me:key@wandb.ai/x"}, r"tracking\.wandb_project="),
        ({"wandb_mode": "disabled"}, r"tracking\.wandb_mode='disabled'"),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrackingSettings(**options)


def test_a_run_that_is_given_up_at_its_beginning_leaves_the_directory_free(tmp_path: Path) -> None:
    data = write_digits(tmp_path)
    tracking = TrackingSettings(wandb_project="tuning", wandb_mode="offline")
    wrong = digits_settings(replace(data, classes=[3, 6]), tmp_path / "run", tracking=tracking)
    with pytest.raises(InputError, match="has the label 9"):
        ActiveFineTuner(wrong).run()
    assert not (tmp_path / "run").exists()


def test_rounds_are_logged_once_each(tmp_path: Path) -> None:
    settings = digits_settings(write_digits(tmp_path), tmp_path / "run")
    settings = replace(settings, tracking=TrackingSettings(wandb_project="tuning", wandb_mode="offline"))
    one, two = (replace(settings, rounds=replace(settings.rounds, count=count)) for count in (1, 2))
    ActiveFineTuner(one).run()
    curves = ActiveFineTuner(two).run().curves
    runs = OfflineRuns(tmp_path / "run")
    assert len(set(runs.ids)) == 1
    assert [step for step, _ in runs.figures["heldout/accuracy"]] == [0, 1, 2]
    np.testing.assert_allclose(
        [score for _, score in runs.figures["heldout/accuracy"]], curves.column("heldout.accuracy").to_numpy()
    )
    assert runs.options["rounds.batch"] == "8"
