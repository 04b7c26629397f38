from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.noise import NoiseResult, Trial, run_noise
from benchmarks.noise_data import ClassedRows, draw_task, featured
from benchmarks.noise_report import auto_choices, noise_tables, render_noise
from benchmarks.settings import NoiseSettings
from ray_itl.api import select

SMALL = NoiseSettings(
    data=["digits"], seeds=2, num_rows=300, num_targets=[1, 6], features=["unit_norm"], rules=["itl"],
    relative_noise=[0.1, 10.0], lengths=[5, 20],
)  # fmt: skip


def test_selections_are_judged_shown_and_not_made_twice(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("sklearn")
    found = run_noise(SMALL, 0, tmp_path, lambda _: None)
    assert len(found) == 2 * 2 * (2 + 2)  # seeds, numbers of targets, noises and baselines
    nearest = [each for each in found if each.trial.rule == "nearest"]
    assert all(each.unlike(5) == each.unlike(20) == 0 for each in nearest if each.trial.num_targets == 1)
    assert all((each.accuracy is None) == (each.trial.num_targets == 1) for each in found)
    text = noise_tables(found, SMALL)
    assert "| unit_norm | itl | 0.1 | " in text
    assert "| digits | 6 | unit_norm | itl | 20 | " in text
    assert "accuracy, 20 picks" in render_noise(found, SMALL, "this machine")

    kept = tmp_path / "noise.jsonl"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-30])  # killed while it wrote
    said: list[str] = []
    again = run_noise(SMALL, 0, tmp_path, said.append)
    assert [replace(each, seconds=0) for each in again] == [replace(each, seconds=0) for each in found]
    assert "15 of 16" in said[0]
    assert len(said) == 2
    assert kept.read_bytes().count(b"\n") == 16


def test_what_is_said_of_picks_is_so(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from benchmarks.noise_data import read_rows

    found = run_noise(replace(SMALL, seeds=1), 3, tmp_path, lambda _: None)
    task = draw_task(read_rows("digits", 300, lambda _: None), 3, 6, 3)
    pool, targets = featured(task, "unit_norm")
    picks = np.array(select(pool, targets, 20, relative_noise=0.1).ids)
    own = next(r for r in found if r.trial.relative_noise == 0.1 and r.trial.num_targets == 6)
    assert own.on_task[1] == np.isin(task.pool.labels[picks], task.classes).mean()
    cosines = np.array([max(float(row @ target) for target in targets) for row in pool])
    below = [(cosines < each).mean() for each in cosines[picks]]
    np.testing.assert_allclose(own.ranks, below, atol=1e-4)
    assert own.unlike(5) == np.mean([rank < 0.95 for rank in below[:5]])
    room = round(0.05 * len(pool))
    assert own.unlike(20) == (sum(rank < 0.95 for rank in below) - (20 - room)) / 20


def test_a_task_has_no_row_in_two_places_and_its_features_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    data = ClassedRows(rng.normal(3, 1, (900, 4)).astype(np.float32), np.repeat(np.arange(9), 100))
    task = draw_task(data, 3, 7, seed=1)
    rows = np.concatenate([task.pool.rows, task.targets.rows, task.heldout.rows])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert {*task.targets.labels} == {*task.heldout.labels} == {*task.classes}
    assert np.bincount(task.heldout.labels)[task.classes].tolist() == [33] * 3
    pool, targets = featured(task, "centred")
    np.testing.assert_allclose(np.linalg.norm(targets, axis=1), 1, rtol=1e-6)
    assert abs(pool.mean()) < 0.1 < featured(task, "unit_norm")[0].mean()


def test_the_rule_without_labels_takes_the_smallest_noise_with_few_unlike_picks() -> None:
    def result(seed: int, noise: float, unlike: float, accuracy: float) -> NoiseResult:
        trial = Trial("digits", seed, "unit_norm", 6, "itl", noise, 300, (100, 400))
        ranks = [0.1] * round(100 * unlike) + [1.0] * round(400 - 100 * unlike)
        return NoiseResult(trial, [1, 1], ranks, [0, 0], [accuracy, accuracy], 10_000, 1)

    results = [
        result(0, 1, 0.5, 0.7), result(0, 10, 0.05, 0.8), result(0, 30, 0.0, 0.6),
        result(1, 1, 0.9, 0.5), result(1, 10, 0.3, 0.8), result(1, 30, 0.2, 0.7),
    ]  # fmt: skip
    (choice,) = auto_choices(results, 400)
    assert (choice.chosen, choice.best) == ([10, 30], 10)
    assert choice.difference == pytest.approx((-0.05, 0.05))
    assert choice.beside_one == pytest.approx((0.15, 0.05))
