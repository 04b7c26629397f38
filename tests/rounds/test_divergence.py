"""A training that becomes NaN leaves no weights, says where, and may be followed by one with another rate."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import DivergedError, InputError, RunDirectoryError
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.group_settings import DataSettings, ModelSettings, RoundSettings
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.registry import ModelSpec
from ray_itl.training.settings import TrainingSettings
from tests.rounds.helpers import digits_settings

TAME = TrainingSettings(epochs=2, learning_rate=0.01, batch_size=16)
WILD = TrainingSettings(epochs=2, learning_rate=1e30, batch_size=16, optimiser="sgd")
ROUNDS = RoundSettings(count=3, batch=8, targets_per_round=10, seed=5)


def settings_of(data: DataSettings, run: Path, training: TrainingSettings, count: int = 3) -> FineTuneSettings:
    return digits_settings(data, run, training=training, rounds=replace(ROUNDS, count=count))


def test_the_same_directory_goes_on_with_another_rate_and_keeps_the_rounds_before(
    data: DataSettings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ActiveFineTuner(settings_of(data, run, TAME, count=1)).run()
    first = (run / "rounds" / "0001" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunDirectoryError, match=r"changed: training\.learning_rate, training\.optimiser"):
        ActiveFineTuner(settings_of(data, run, WILD)).run()  # nothing has diverged yet
    wild = digits_settings(data, tmp_path / "wild", training=WILD, rounds=ROUNDS)
    for _ in range(2):  # however often it is tried
        with pytest.raises(DivergedError, match=r"^round 1: .* step \d+ .*training\.learning_rate") as caught:
            ActiveFineTuner(wild).run()
        assert "goes on from this round" in str(caught.value)
        assert not (tmp_path / "wild" / "rounds" / "0001" / "checkpoint.safetensors").exists()
        status = json.loads((tmp_path / "wild" / "status.json").read_text())
        assert (status["state"], "round 1" in status["error"]) == ("failed", True)

    reporter = Reporter("quiet")
    result = ActiveFineTuner(digits_settings(data, tmp_path / "wild", training=TAME, rounds=ROUNDS), reporter).run()
    assert result.state == "finished"
    warning = reporter.warnings[0]  # another is of a score that fell
    assert warning == (
        "from round 1 on, whose training diverged, training.learning_rate=0.01 (before: 1e+30), "
        "training.optimiser='adam' (before: 'sgd')"
    )
    assert (tmp_path / "wild" / "rounds" / "0001" / "checkpoint.safetensors").read_bytes() == first
    manifest = json.loads((tmp_path / "wild" / "manifest.json").read_text())
    assert manifest["amended"] == [
        {"round": 1, "until_then": {"training.learning_rate": "1e+30", "training.optimiser": "'sgd'"}}
    ]
    assert manifest["identity"]["training.learning_rate"] == "0.01"
    assert re.search("learning_rate: 0.01", (tmp_path / "wild" / "config.yaml").read_text())
    with pytest.raises(RunDirectoryError, match=r"changed: training\.epochs"):  # its own options by now
        ActiveFineTuner(settings_of(data, tmp_path / "wild", replace(TAME, epochs=3))).run()


def test_a_later_round_that_diverges_leaves_those_before(data: DataSettings, tmp_path: Path) -> None:
    """Only the second training is wild: its batches are the ones with an example of huge numbers."""
    run = tmp_path / "run"
    ActiveFineTuner(settings_of(data, run, TAME, count=1)).run()
    before = {path: path.read_bytes() for path in (run / "rounds" / "0001").iterdir()}
    folder = RoundFolder(run, 2)
    folder.create()
    (folder.path / "diverged.json").write_text('{"round": 2, "error": "a loss of nan"}')
    ActiveFineTuner(settings_of(data, run, replace(TAME, learning_rate=0.002))).run()
    assert {path: path.read_bytes() for path in (run / "rounds" / "0001").iterdir()} == before
    assert json.loads((run / "manifest.json").read_text())["amended"][0]["round"] == 2


def test_other_options_than_those_of_training_stay(data: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        ActiveFineTuner(settings_of(data, tmp_path / "run", WILD)).run()
    with pytest.raises(RunDirectoryError, match=r"changed: acquisition\.name, training\.learning_rate"):
        ActiveFineTuner(digits_settings(data, tmp_path / "run", "vtl", training=TAME, rounds=ROUNDS)).run()


def test_a_checkpoint_of_nan_to_begin_with_is_refused(data: DataSettings, tmp_path: Path) -> None:
    options = {"input_dim": 64, "hidden": [32], "classes": 3}
    learner = ModelSpec("mlp", options).build(0)
    for parameter in learner.parameters():
        parameter.data.fill_(float("nan"))
    save_checkpoint(learner, tmp_path / "nan.safetensors")
    model = ModelSettings("mlp", options, checkpoint=str(tmp_path / "nan.safetensors"))
    with pytest.raises(InputError, match=r"held-out rows score log_loss nan before any training.*model\.checkpoint="):
        ActiveFineTuner(digits_settings(data, tmp_path / "run", model=model)).run()
    assert not (tmp_path / "run" / "rounds" / "0000" / "round.json").exists()


def test_labels_that_were_corrected_after_it_are_trained_on(data: DataSettings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DivergedError):
        ActiveFineTuner(settings_of(data, run, WILD, count=1)).run()
    labels = pq.read_table(RoundFolder(run, 1).labels)
    corrected = labels.set_column(1, "label", pa.array([3] * len(labels)))
    pq.write_table(corrected, RoundFolder(run, 1).labels)
    result = ActiveFineTuner(settings_of(data, run, TAME, count=1)).run()
    assert result.curves.column("num_on_task").to_pylist() == [0, 8]
    record = RoundFolder(run, 1).read_record()
    assert record is not None
    assert record["num_trained"] == 8
