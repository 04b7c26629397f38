"""A score that falls from one round to the next is warned of, where chance alone would not explain it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.group_settings import DataSettings, RoundSettings
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.scores import Score, score_of
from ray_itl.rounds.sweep import _run_member
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.settings import TrainingSettings
from tests.rounds.helpers import digits_settings

ACCURACY, BITS = Score("accuracy", True), Score("bits_per_byte", False)


def record(number: int, **scores: float) -> dict:
    return {"round": number, "heldout": scores}


@pytest.mark.parametrize(
    ("score", "old", "new", "rows", "falls"),
    [
        (ACCURACY, 0.9, 0.8, 100, True),
        (ACCURACY, 0.9, 0.88, 100, False),  # within a standard error of 0.03
        (ACCURACY, 0.9, 0.88, 1000, True),
        (ACCURACY, 1.0, 0.99, 100, False),  # one row of a hundred
        (ACCURACY, 1.0, 0.97, 100, True),
        (ACCURACY, 0.8, 0.9, 100, False),
        (BITS, 1.0, 1.005, 100, False),
        (BITS, 1.0, 1.02, 100, True),
        (BITS, 1.0, 0.9, 100, False),
    ],
)
def test_falls(score: Score, old: float, new: float, rows: int, falls: bool) -> None:
    told = score.fall(record(1, **{score.name: old}), record(2, **{score.name: new}), rows)
    assert (told is not None) == falls
    if told:
        assert told.startswith(f"round 2: {score.title} on the {rows:,} held-out rows ")
        assert f"from {old:.4f} to {new:.4f}" in told


def test_nothing_falls_from_a_score_that_is_not_there() -> None:
    assert ACCURACY.fall(record(0), record(1, accuracy=0.1), 100) is None
    assert ACCURACY.words(record(0)) == "no accuracy yet"


def test_a_fall_is_told_kept_and_told_again_by_whoever_resumes(data: DataSettings, tmp_path: Path) -> None:
    """Trained well, then hardly at all, from fresh weights."""
    run, rounds = tmp_path / "run", RoundSettings(1, 8, 10, 5)
    settings = digits_settings(data, run, rounds=rounds)
    ActiveFineTuner(settings).run()
    before = RoundFolder(run, 1).read_record()
    assert before is not None
    assert score_of(settings).name in before["heldout"]
    before["heldout"]["accuracy"] = 1.0  # as if
    RoundFolder(run, 1).write_record(before)
    for count in (2, 2):
        reporter = Reporter("quiet")
        ActiveFineTuner(replace(settings, rounds=replace(rounds, count=count)), reporter).run()
        second = RoundFolder(run, 2).read_record()
        assert second is not None
        assert second["warning"] in reporter.warnings
        assert "fell from 1.0000 to 0." in second["warning"]
        assert second["stopped"].endswith(" steps: training.epochs=20")
        # A sweep, whose curves tell it, has thousands of rounds.
        assert second["warning"] not in _run_member(replace(settings, rounds=replace(rounds, count=2)))[1]


def test_what_stopped_training_is_told_of_each_round(
    data: DataSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = digits_settings(data, tmp_path / "run", training=TrainingSettings(learning_rate=0.01))
    ActiveFineTuner(settings, Reporter("lines")).run()
    told = capsys.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if line.startswith("round ")]
    assert len(lines) == 3
    assert all("steps: the loss of training was at most 0.01)" in line for line in lines), lines
