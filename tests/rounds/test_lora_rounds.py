"""Rounds that pick by gradients of the adapters that they train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.embedding.embedder import Embedder
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.errors import ConfigError
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.data import open_tuning_data
from ray_itl.rounds.group_settings import ModelSettings, RoundEmbeddingSettings
from ray_itl.rounds.learner_model import first_weights_seed
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.registry import ModelSpec
from tests.rounds.test_conversations import model, settings_for
from tests.training.test_chat import folder

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers
__all__ = ["folder", "model"]  # fixtures
LORA = {"lora_rank": 2, "lora_modules": ["q_proj", "v_proj"]}


def settings_of(model: Path, tmp_path: Path, **embedding: Any) -> FineTuneSettings:
    plain = settings_for(model, tmp_path, "run")
    options = {**plain.model.options, **LORA}
    return replace(
        plain,
        model=ModelSettings("causal_lm", options, objective="causal_lm", trainable_only=True),
        embedding=RoundEmbeddingSettings("lora_gradient", batch_size=4, **embedding),
    )


def test_every_round_picks_by_the_gradients_of_its_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picks are those of embedding first, by each round's checkpoint, and selecting then."""
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    settings = settings_of(model, tmp_path, unit_norm=True, projection_dim=256)
    reporter = Reporter("quiet")
    assert ActiveFineTuner(settings, reporter).run().state == "finished"
    assert not any("unit_norm" in words for words in reporter.warnings)
    data = open_tuning_data(settings)
    sound = [k for k in range(8) if k != 5]  # the row that is passed over, as it has no answer in sight
    raw, how = data.options.raw_column, EmbeddingSettings("lora_gradient", True, 256)
    earlier: list[int] = []
    for number in (1, 2):
        checkpoint = None if number == 1 else str(tmp_path / "run" / "rounds" / "0001" / "checkpoint.safetensors")
        spec = ModelSpec("causal_lm", settings.model.options)
        made = Embedder(spec, checkpoint, first_weights_seed(settings.rounds.seed), how)
        pool, target = (
            made.embed_column(rows.take(np.array(places), [raw]).column(0).combine_chunks())
            for rows, places in ((data.pool, sound), (data.targets, [0, 1]))
        )
        expected = select(pool, target, n=3, noise_variance=0.1, include=[sound.index(k) for k in earlier]).ids
        found = pq.read_table(tmp_path / "run" / "rounds" / f"{number:04d}" / "selection.parquet")["position"]
        assert found.to_pylist() == [sound[int(k)] for k in expected]
        earlier += found.to_pylist()


def test_it_is_said_that_short_rows_have_the_largest_gradients(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    settings, reporter = settings_of(model, tmp_path, projection_dim=16), Reporter("quiet")
    ActiveFineTuner(replace(settings, rounds=replace(settings.rounds, count=1)), reporter).run()
    assert [words for words in reporter.warnings if "unit_norm=true" in words]


def test_what_it_cannot_go_with(model: Path, tmp_path: Path) -> None:
    settings = settings_of(model, tmp_path)
    with pytest.raises(ConfigError, match=r"lora_gradient is of language models: set model\.objective=causal_lm"):
        replace(settings, model=ModelSettings("mlp"))
    without = replace(settings, model=replace(settings.model, options=settings_for(model, tmp_path, "r").model.options))
    with pytest.raises(ConfigError, match=r"model\.options\.lora_rank"):
        ActiveFineTuner(without, Reporter("quiet")).run()
    assert not (tmp_path / "run" / "rounds").exists()
