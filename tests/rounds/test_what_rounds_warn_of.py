"""What may not be as meant in a fine-tuning is said in every log, at its end, and in its record."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ray_itl.errors import ConfigError, LabelError
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.group_settings import DataSettings, LabelSettings, RoundSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from tests.rounds.helpers import CLASSES, digits_settings

ROUNDS = RoundSettings(count=2, batch=4, targets_per_round=10, seed=5)


@pytest.fixture
def labeller(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("labeller_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_round_with_nothing_on_task_warns_in_log_and_record(
    data: DataSettings, tmp_path: Path, labeller: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    labeller.label = lambda ids, _: [CLASSES[0]] * len(ids) if not (tmp_path / "run/rounds/0002").exists() else [4] * 4
    labels = LabelSettings("callable", "labeller_of_a_test:label")
    settings = digits_settings(data, tmp_path / "run", labels=labels, rounds=ROUNDS)
    told = ["round 2: none of its 4 rows is of data.classes=[3, 6, 9]"]
    for _ in range(2):  # a finished run says it again
        reporter = Reporter("quiet")
        ActiveFineTuner(settings, reporter).run()
        assert reporter.warnings == told
        assert capsys.readouterr() == ("", f"warning: {told[0]}\n")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["warnings"] == told


def test_a_function_that_failed_is_asked_again_by_the_same_command(
    data: DataSettings, tmp_path: Path, labeller: Any
) -> None:
    def fail(ids: list, rows: Any) -> list:
        raise ConnectionError(f"503 {len(ids)} {len(rows)}")

    labeller.label = fail
    labels = LabelSettings("callable", "labeller_of_a_test:label")
    settings = digits_settings(data, tmp_path / "run", labels=labels, rounds=ROUNDS)
    with pytest.raises(LabelError, match="in round 1 failed"):
        ActiveFineTuner(settings).run()
    picked = (tmp_path / "run/rounds/0001/selection.parquet").read_bytes()
    labeller.label = lambda ids, _: [6] * len(ids)
    assert ActiveFineTuner(settings).run().state == "finished"
    assert (tmp_path / "run/rounds/0001/selection.parquet").read_bytes() == picked


def test_a_function_that_cannot_be_imported_is_known_before_anything_is_done(
    data: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_labels_of_a_test.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    labels = LabelSettings("callable", "broken_labels_of_a_test:label")
    with pytest.raises(ConfigError, match=r"labels\.function=.* cannot be imported \(ZeroDivisionError"):
        ActiveFineTuner(digits_settings(data, tmp_path / "run", labels=labels)).run()
    assert not (tmp_path / "run").exists()
