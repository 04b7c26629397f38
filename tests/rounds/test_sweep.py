"""Means, standard errors and standings of a sweep, against values worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.rounds.sweep import mean_curves, standings, standings_table
from tests.processes import process_is_alive, wait_until

ROOT = Path(__file__).parents[2]


def sweep_table(scores: dict[str, list[list[float]]]) -> pa.Table:
    """One row a variant, seed and round; ten labels a round, of which as many as the seed's number are on task."""
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "round": number,
            "num_labelled": 10 * number,
            "num_on_task": seed * number,
            "heldout.accuracy": score,
        }
        for variant, curves in scores.items()
        for seed, curve in enumerate(curves)
        for number, score in enumerate(curve)
    ]
    return pa.Table.from_pylist(rows)


TABLE = sweep_table(
    {
        "random": [[0.1, 0.4, 0.6], [0.3, 0.4, 0.8]],
        "itl": [[0.1, 0.8, 0.9], [0.3, 0.7, 0.7]],
        "worse": [[0.1, 0.1, 0.2], [0.1, 0.2, 0.2]],
    }
)


def test_means_and_standard_errors() -> None:
    random, itl, _ = mean_curves(TABLE, "heldout.accuracy")
    assert (random.variant, random.num_seeds, itl.variant) == ("random", 2, "itl")
    np.testing.assert_allclose(random.score, [0.2, 0.4, 0.7])
    # Of two values, the standard error is half their distance.
    np.testing.assert_allclose(random.score_error, [0.1, 0.0, 0.1])
    np.testing.assert_allclose(itl.on_task, [0, 0.5, 1.0])
    np.testing.assert_array_equal(itl.num_labelled, [0, 10, 20])


def test_standings_beside_random() -> None:
    random, itl, worse = standings(mean_curves(TABLE, "heldout.accuracy"), "random", higher_is_better=True)
    assert (random.labels_needed, random.ratio) == (20, 1.0)
    assert (itl.labels_needed, itl.ratio) == (10, 2.0)
    assert itl.score == pytest.approx(0.8)
    assert (worse.labels_needed, worse.ratio) == (None, None)
    text = standings_table([random, itl, worse], "accuracy", "random", 2, 20)
    assert "| itl | 0.8000 ± 0.1000 | 1.0 ± 1.0 | 10 | 2.0 |" in text
    assert "| never |" in text


def test_lower_may_be_better() -> None:
    curves = mean_curves(TABLE, "heldout.accuracy")
    found = {s.variant: s.labels_needed for s in standings(curves, "worse", higher_is_better=False)}
    # Already without labels both are at or below 0.2; the other variant, at 0.1, as well.
    assert found == {"random": 0, "itl": 0, "worse": 0}


def test_one_seed_has_no_error() -> None:
    (curve,) = mean_curves(sweep_table({"itl": [[0.5, 0.6]]}), "heldout.accuracy")
    assert np.isnan(curve.score_error).all()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_the_sweep_that_was_killed(tmp_path: Path) -> None:
    """Else they would go on with queued runs beside the sweep that resumes."""
    code = """
import multiprocessing, os, pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from ray_itl.rounds.sweep import _end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as processes:
        pathlib.Path(sys.argv[1]).write_text(str(processes.submit(os.getpid).result()))
        processes.submit(time.sleep, 120).result()
"""
    (tmp_path / "driver.py").write_text(code)
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "pid")], cwd=ROOT)
    try:
        wait_until((tmp_path / "pid").exists, 200)
        wait_until(lambda: (tmp_path / "pid").read_text() != "", 60)
        worker = int((tmp_path / "pid").read_text())
        assert process_is_alive(worker)
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not process_is_alive(worker), 60)
