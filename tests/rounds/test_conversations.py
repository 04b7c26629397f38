"""Rounds on prompts and completions: embedded as conversations, trained on and scored by the answers alone."""

import json
from pathlib import Path

import pytest

from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.group_settings import (
    DataSettings,
    ModelSettings,
    RoundEmbeddingSettings,
    RoundSettings,
    RuleSettings,
    TuningRunSettings,
)
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.chat import WITHOUT_TEMPLATE
from ray_itl.training.examples import read_examples
from ray_itl.training.settings import TrainingSettings
from tests.training.test_chat import PLAIN, folder, tokenizer

pytest.importorskip("transformers")
__all__ = ["folder"]  # a fixture


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Path:
    """The model with a chat template."""
    path = tmp_path / "model"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    tokenizer(folder, PLAIN).save_pretrained(path)
    return path


def settings_for(model: Path, folder: Path, run: str) -> FineTuneSettings:
    data = {}
    for name, count in {"pool": 8, "target": 2, "heldout": 3}.items():
        rows = [{"prompt": f"where is {name} {k}", "completion": f"on the mat {k}" * (k + 1)} for k in range(count)]
        if name == "pool":
            rows[5] = {"prompt": "a very long question " * 40, "completion": "never read"}
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data[name] = str(path)
    return FineTuneSettings(
        data=DataSettings(**data, raw_column="messages", on_bad_row="skip"),
        model=ModelSettings("causal_lm", {"path": str(model), "max_tokens": 150}, objective="causal_lm"),
        embedding=RoundEmbeddingSettings(batch_size=4),
        acquisition=RuleSettings("itl", 0.1),
        rounds=RoundSettings(count=2, batch=3),
        training=TrainingSettings(epochs=2, batch_size=2),
        run=TuningRunSettings(str(folder / run), log="quiet", report=False),
    )


def test_only_answers_are_trained_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    reporter = Reporter("quiet")
    result = ActiveFineTuner(settings_for(model, tmp_path, "run"), reporter).run()
    assert result.state == "finished"
    assert reporter.warnings == [reporter.warnings[0]]
    assert "1 row of data.pool cannot be used" in reporter.warnings[0]
    words = tokenizer(model, PLAIN)
    examples = read_examples(tmp_path / "run" / "heldout.safetensors").inputs
    answers = [ids[own.bool()] for ids, own in zip(examples["input_ids"], examples["answers"], strict=True)]
    assert [words.decode(ids) for ids in answers] == [f"on the mat {k}" * (k + 1) + "<|im_end|>" for k in range(3)]
    assert WITHOUT_TEMPLATE not in reporter.warnings


def test_a_model_without_a_template_is_told_of(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    reporter = Reporter("quiet")
    ActiveFineTuner(settings_for(folder, tmp_path, "run"), reporter).run()
    assert WITHOUT_TEMPLATE in reporter.warnings
