"""The noise of rounds where none is set: by what rules see of a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray_itl.observability.reporter import Reporter
from ray_itl.options.text import from_yaml
from ray_itl.rounds.group_settings import (
    CLASSIFIER_NOISE,
    LANGUAGE_NOISE,
    DataSettings,
    ModelSettings,
    RoundEmbeddingSettings,
    RoundSettings,
    RuleSettings,
)
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from tests.rounds.helpers import digits_settings, picks_of, tune

ONE_ROUND = RoundSettings(count=1, batch=8, seed=5)
FORMER = "20 / targets, at least 1, x the mean squared norm"


def settings_of(data: DataSettings, run: Path, noise: float | None = None, kind: str = "features") -> FineTuneSettings:
    return digits_settings(
        data,
        run,
        embedding=RoundEmbeddingSettings(kind, "image" if kind == "column" else None),
        acquisition=RuleSettings("itl", None, relative_noise=noise),
        rounds=ONE_ROUND,
    )


@pytest.mark.parametrize(("kind", "noise"), [("features", 0.01), ("gradient", 0.01), ("column", 1.0)])
def test_the_default_is_by_what_rules_see(kind: str, noise: float, data: DataSettings, tmp_path: Path) -> None:
    """There are 20 targets, of which 20 / targets makes 1."""
    unset = tune(settings_of(data, tmp_path / "unset", kind=kind))
    given = tune(settings_of(data, tmp_path / "given", noise, kind))
    other = tune(settings_of(data, tmp_path / "other", 100 * noise, kind))
    assert picks_of(unset.path) == picks_of(given.path) != picks_of(other.path)


def test_it_is_said_and_kept(data: DataSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(data, tmp_path)
    found = tune(replace(settings, run=replace(settings.run, log="lines")))
    said = f"noise variance: {CLASSIFIER_NOISE:g} times the mean squared norm of a round's rows"
    assert said in capsys.readouterr().err
    kept = from_yaml((found.path / "config.yaml").read_text(), FineTuneSettings)
    assert kept.acquisition.relative_noise == CLASSIFIER_NOISE


def test_a_language_model_has_a_default_of_its_own_however_rows_are_seen(data: DataSettings, tmp_path: Path) -> None:
    for kind in ("column", "features", "lora_gradient"):
        settings = replace(
            settings_of(data, tmp_path),
            model=ModelSettings("causal_lm", objective="causal_lm"),
            embedding=RoundEmbeddingSettings(kind, "image" if kind == "column" else None),
        )
        assert settings.with_noise({}).acquisition.relative_noise == LANGUAGE_NOISE
        begun = {"acquisition.noise_variance": FORMER}
        assert settings.with_noise(begun).acquisition == settings.acquisition
        given = replace(settings, acquisition=replace(settings.acquisition, noise_variance=0.1))
        assert given.with_noise({}) == given


def test_what_no_classifier_sees_keeps_the_noise_of_a_selection(data: DataSettings, tmp_path: Path) -> None:
    settings = settings_of(data, tmp_path)
    unsure = replace(settings, acquisition=replace(settings.acquisition, name="uncertainty"))
    texts = replace(settings, model=ModelSettings("sentence_encoder"))
    for each in (texts, unsure, settings_of(data, tmp_path, 3.0)):
        assert each.with_noise({}) == each


def test_what_was_begun_with_a_former_default_goes_on_with_it(
    data: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was that of a selection, as of embeddings."""
    two = replace(ONE_ROUND, count=2)
    whole = tune(replace(settings_of(data, tmp_path / "whole", 1.0), rounds=two))
    settings = settings_of(data, tmp_path / "begun")
    with monkeypatch.context() as former:
        former.setattr(FineTuneSettings, "with_noise", lambda settings, _: settings)
        begun = tune(settings)
    assert begun.path.joinpath("manifest.json").read_text().count(FORMER) == 1
    reporter = Reporter("quiet")
    resumed = ActiveFineTuner(replace(settings, rounds=two), reporter).run()
    assert picks_of(resumed.path, 2) == picks_of(whole.path, 2)
    said = f"the run goes on with the default that it began with, {FORMER}; a new one has 0.01 x the mean squared norm"
    assert [said in words for words in reporter.warnings] == [True]
