"""A noise variance that nobody set is relative to the pool's rows, a number from the first pick on, and recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.api import select
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.posterior import Targets
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.loaded.pool import open_pool
from ray_itl.options.text import from_yaml
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import StopAfter
from tests.helpers import Files, clustered
from tests.oracle import dense_greedy
from tests.ticks.helpers import Growing

pytestmark = pytest.mark.usefixtures("small_blocks")
POOL, TARGET = clustered(200, seed=1), clustered(12, seed=2)
RELATIVE: dict[str, Any] = {"noise_variance": None}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def mean_square(rows: np.ndarray) -> float:
    return float((rows.astype(np.float64) ** 2).sum(axis=1).mean())


def test_it_is_the_mean_squared_norm_times_the_option() -> None:
    for factor in (1.0, 0.1, 30.0):
        found = select(POOL, TARGET, 10, relative_noise=factor)
        noise = found.metrics["noise_variance"]
        assert noise == pytest.approx(factor * mean_square(POOL), rel=1e-5)
        rows, targets = torch.from_numpy(POOL).double(), Targets.uniform(torch.from_numpy(TARGET).double())
        dense = dense_greedy("itl", rows, np.arange(200), targets, 10, noise)
        assert found.ids == [pick.index for pick in dense]
        np.testing.assert_allclose(found.gains, [pick.gain for pick in dense], rtol=1e-9)
        assert found.ids == select(POOL, TARGET, 10, noise_variance=noise).ids


@pytest.mark.parametrize(
    ("count", "multiple"), [(1, 20.0), (4, 5.0), (12, 5 / 3), (20, 1.0), (40, 1.0)], ids=lambda value: f"{value:.3g}"
)
def test_by_default_fewer_targets_than_twenty_have_more_noise(count: int, multiple: float) -> None:
    target = clustered(count, seed=3)
    found = select(POOL, target, 5)
    assert found.metrics["noise_variance"] == pytest.approx(multiple * mean_square(POOL), rel=1e-5)
    assert found.ids == select(POOL, target, 5, relative_noise=multiple).ids
    unsure = select(POOL, target, 5, acquisition="uncertainty").metrics["noise_variance"]
    assert unsure == pytest.approx(mean_square(POOL), rel=1e-5)  # which no target has a part in


def test_of_several_tasks_and_queries_the_smallest_counts() -> None:
    rows = clustered(20, seed=4)
    table = pa.table({"embedding": list(rows), "task": ["a"] * 16 + ["b"] * 4})
    found = select(POOL, table, 5, task_column="task")
    assert found.metrics["noise_variance"] == pytest.approx(5 * mean_square(POOL), rel=1e-5)
    with open_pool(POOL) as pool:
        both = pool.select_many([rows[:16], rows[16:18]], 5)
        given = pool.select_many([rows[:16], rows[16:18]], 5, relative_noise=10)
    assert both.equals(given)


@pytest.mark.parametrize("rule", ["itl", "vtl", "uncertainty"])
def test_picks_do_not_depend_on_the_units_of_the_embedding(rule: str) -> None:
    first = select(POOL, TARGET, 10, acquisition=rule)
    for scale in (2.0**-30, 1e-4, 1e3):
        scaled = select((POOL * scale).astype(np.float64), TARGET * scale, 10, acquisition=rule, dtype="float64")
        assert scaled.ids == first.ids
        np.testing.assert_allclose(scaled.remaining_uncertainty, first.remaining_uncertainty, rtol=1e-5)


def test_neither_order_nor_features_make_it_another_number() -> None:
    numbers = {
        select(POOL[order], TARGET, 3).metrics["noise_variance"]
        for order in (np.arange(200), np.arange(200)[::-1], np.random.default_rng(0).permutation(200))
    }
    assert len(numbers) == 1
    assert select(POOL, TARGET, 3, features="unit_norm", relative_noise=2.0).metrics["noise_variance"] == 2.0


def test_it_is_said_recorded_resumed_and_verified(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    settings = files.settings(acquisition=RELATIVE)
    whole = files.run(replace(settings, run=replace(settings.run, report=True, log="lines")))
    noise = whole.metrics["noise_variance"]
    assert (
        f"noise variance {noise:g}: 1.67 times the mean squared norm of the pool's rows, since there are 12 targets "
        "alone (acquisition.relative_noise)" in capsys.readouterr().err
    )
    assert f"{noise:g} (1.67 x the mean squared norm)" in (files.folder / "run" / "report.html").read_text()
    kept = from_yaml((files.folder / "run" / "config.yaml").read_text(), CurationSettings)
    assert (kept.acquisition.noise_variance, kept.acquisition.relative_noise) == (None, None)
    assert verify(VerifySettings(FinishedRun(str(files.folder / "run")))).right

    stopped = replace(settings, run=replace(settings.run, dir=str(files.folder / "stopped")))
    with pytest.raises(InterruptedError):
        files.run(stopped, StopAfter(2))
    resumed = files.run(stopped)
    assert (resumed.ids, resumed.metrics["noise_variance"]) == (whole.ids, noise)


def test_what_was_begun_with_the_former_default_goes_on_with_it(files: Files) -> None:
    """It was 1 for any number of targets."""
    one = files.settings(acquisition={**RELATIVE, "relative_noise": 1.0})
    whole = files.run(one)
    stopped = replace(one, run=replace(one.run, dir=str(files.folder / "stopped")))
    with pytest.raises(InterruptedError):
        files.run(stopped, StopAfter(2))
    unset = replace(stopped, acquisition=replace(stopped.acquisition, relative_noise=None))
    assert files.run(unset).ids == whole.ids
    assert files.run(unset).metrics["noise_variance"] == whole.metrics["noise_variance"]


def test_another_number_is_refused(files: Files) -> None:
    stopped = files.settings(acquisition=RELATIVE)
    files.run(stopped)
    other = replace(stopped, acquisition=AcquisitionSettings(relative_noise=2.0))
    with pytest.raises(RunDirectoryError, match=r"changed: acquisition\.noise_variance"):
        files.run(other)


def test_a_recorded_number_that_is_not_the_runs_is_found(files: Files) -> None:
    files.run(files.settings(acquisition=RELATIVE))
    path = files.folder / "run" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({**metrics, "noise_variance": 1.1 * metrics["noise_variance"]}))
    assert not verify(VerifySettings(FinishedRun(str(files.folder / "run")))).right


def test_noise_that_drowns_all_rows_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    select(POOL * 1e-3, TARGET * 1e-3, 3, noise_variance=1.0, quiet=False)
    assert "warning: The noise variance (1) is" in capsys.readouterr().err
    select(POOL * 1e-3, TARGET * 1e-3, 3, quiet=False)
    assert "warning" not in capsys.readouterr().err


def test_rows_that_are_all_zero_are_picked_by_id() -> None:
    assert select(np.zeros((5, 3)), np.ones((2, 3)), 3).ids == [0, 1, 2]


@pytest.mark.parametrize(
    "options",
    [{"noise_variance": 0.5, "relative_noise": 2.0}, {"acquisition": InformationGain(0.5), "relative_noise": 2.0}],
)
def test_both_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="relative_noise"):
        select(POOL, TARGET, 3, **options)


def test_ticks_keep_the_noise_of_the_first_and_tell_one_share(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    first = growing.tick("a", acquisition=RELATIVE).record
    assert first.noise_variance is not None
    growing.write(1, growing.pool / "part-01.parquet")
    second = growing.tick("b", acquisition=RELATIVE).record
    assert second.noise_variance == first.noise_variance
    for record, before in ((first, 1.0), (second, first.uncertainty_left)):
        folder = Path(growing.location) / record.path
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["noise_variance"] == first.noise_variance
        assert metrics["remaining_uncertainty"][0] == record.uncertainty_before == pytest.approx(before, rel=1e-9)
        assert metrics["remaining_uncertainty"][-1] == record.uncertainty_left
        assert verify(VerifySettings(FinishedRun(str(folder)))).right
    with pytest.raises(ConfigError, match=r"acquisition\.noise_variance"):
        growing.tick("c", acquisition={"noise_variance": None, "relative_noise": 2.0})
