"""Event files of curation runs and of rounds, read back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_itl import ActiveFineTuner, MissingExtraError
from ray_itl.curation.settings import CurationSettings
from ray_itl.observability.settings import TrackingSettings
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files
from tests.observability.logs import Events
from tests.rounds.helpers import digits_settings, write_digits


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def tracked(files: Files, **changes: Any) -> CurationSettings:
    return files.settings(**changes, tracking={"tensorboard_dir": str(files.folder / "tb")})


def test_a_run_has_its_options_its_curves_and_its_totals(files: Files) -> None:
    selection = files.run(tracked(files, n=7))
    events = Events(files.folder / "tb" / "run")
    options = events.texts["options"].replace("\\", "")
    assert "| selection.n | 7 |" in options
    assert f"| results | {files.folder / 'run'} |" in options
    steps, left = zip(*events.scalars["uncertainty_left"], strict=True)
    assert steps == tuple(range(8))
    np.testing.assert_allclose(left, selection.remaining_uncertainty, rtol=1e-6)
    np.testing.assert_allclose([g for _, g in events.scalars["gain"]], selection.gains, rtol=1e-6)
    np.testing.assert_allclose([g for _, g in events.scalars["cumulative_gain"]], np.cumsum(selection.gains), rtol=1e-6)
    assert events.scalars["total/num_picks"] == [(7, 7.0)]
    assert {"total/passes", "total/seconds", "seconds/select"} <= set(events.scalars)


@pytest.mark.usefixtures("small_blocks")
def test_a_resumed_run_is_one_run_and_a_finished_one_is_not_logged_again(files: Files) -> None:
    with pytest.raises(InterruptedError):
        files.run(tracked(files), StopAfter(1))
    files.run(tracked(files))
    folder = files.folder / "tb" / "run"
    once = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(Events(folder).scalars["gain"]) == 12
    files.run(tracked(files))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == once


def test_a_finished_run_can_be_logged_later(files: Files) -> None:
    selection = files.run(files.settings())
    files.run(tracked(files))
    gains = [gain for _, gain in Events(files.folder / "tb" / "run").scalars["gain"]]
    np.testing.assert_allclose(gains, selection.gains, rtol=1e-6)


def test_a_folder_that_cannot_be_written_is_told_of_and_the_selection_is_made(files: Files) -> None:
    (files.folder / "tb").write_text("in the way")
    listener = Listener()
    assert len(files.run(tracked(files), listener)) == 12
    warnings = [line for line in listener.warnings if line.startswith("logging to TensorBoard failed")]
    assert len(warnings) == 1
    (files.folder / "tb").unlink()
    files.run(tracked(files))
    assert len(Events(files.folder / "tb" / "run").scalars["gain"]) == 12


def test_bad_rows_leave_no_run_behind(files: Files) -> None:
    settings = tracked(files, known={"path": str(files.folder / "nowhere.parquet")})
    with pytest.raises(Exception, match="nowhere"):
        files.run(settings)
    assert not (files.folder / "tb").exists()
    assert not (files.folder / "run").exists()


def test_a_library_that_is_missing_is_named_before_anything_is_done(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r'tensorboard_dir needs tensorboardX.*"ray_itl\[tensorboard\]"'):
        files.run(tracked(files))
    assert not (files.folder / "run").exists()


def test_rounds_are_logged_once_each(tmp_path: Path) -> None:
    settings = digits_settings(write_digits(tmp_path), tmp_path / "run")
    settings = replace(settings, tracking=TrackingSettings(tensorboard_dir=str(tmp_path / "tb"), run_name="a/b"))
    one, two = (replace(settings, rounds=replace(settings.rounds, count=count)) for count in (1, 2))
    ActiveFineTuner(one).run()
    curves = ActiveFineTuner(two).run().curves
    events = Events(tmp_path / "tb" / "a" / "b")
    assert [step for step, _ in events.scalars["heldout/accuracy"]] == [0, 1, 2]
    np.testing.assert_allclose(
        [score for _, score in events.scalars["heldout/accuracy"]],
        curves.column("heldout.accuracy").to_numpy(),
        rtol=1e-6,
    )
    assert [step for step, _ in events.scalars["seconds/train"]] == [1, 2]
    assert "rounds" in events.texts["options"]
