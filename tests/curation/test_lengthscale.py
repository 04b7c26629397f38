"""A lengthscale that nobody set follows from the pool's rows, is a number from the first pick on, and recorded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ray_itl
from ray_itl.api import select
from ray_itl.curation import lengthscale
from ray_itl.curation.lengthscale import chosen_lengthscale
from ray_itl.curation.planning import planned
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.options.text import from_yaml
from ray_itl.queries.run import select_queries
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.open import open_source
from ray_itl.sources.settings import PoolSettings
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files, clustered, table_of
from tests.ticks.helpers import Growing

POOL, TARGET = clustered(200, seed=1), clustered(12, seed=2)
RBF: dict[str, Any] = {"features": "random_fourier", "fourier_features": 32}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def silent(_: str) -> None:
    pass


def chosen(rows: np.ndarray) -> float:
    return chosen_lengthscale(ArraySource(rows), silent)


def by_definition(rows: np.ndarray) -> float:
    """0.3 = exp(-d^2 / (2 l^2)) where d is the distance that a twentieth of all pairs is within."""
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(rows.astype(np.float64)) for b in rows[:i]]
    return float(np.quantile(pairs, 0.05)) / math.sqrt(2 * math.log(1 / 0.3))


def test_it_is_what_the_definition_says_to_three_digits() -> None:
    assert chosen(POOL) == pytest.approx(by_definition(POOL), rel=5e-3)
    assert chosen(POOL) == float(f"{chosen(POOL):.3g}")
    assert select(POOL, TARGET, 3, features="random_fourier").metrics["lengthscale"] == chosen(POOL)


@given(exponent=st.integers(-100, 100), shift=st.floats(-2, 2), order=st.permutations(range(30)))
@settings(deadline=None, max_examples=30)
def test_it_scales_with_the_rows_and_knows_neither_their_origin_nor_order(
    exponent: int, shift: float, order: list[int]
) -> None:
    rows = POOL[:30].astype(np.float64)
    assert chosen(rows * 2.0**exponent) == pytest.approx(chosen(rows) * 2.0**exponent, rel=1e-2)
    assert chosen(rows + shift) == chosen(rows)
    assert chosen(rows[order]) == chosen(rows)


def test_copies_of_rows_change_nothing() -> None:
    rows = np.concatenate([POOL[:20], np.repeat(POOL[:1], 500, axis=0), POOL[3:9]])
    assert chosen(rows) == chosen(POOL[:20])


@pytest.mark.parametrize("text_ids", [False, True])
def test_which_rows_are_compared_ids_decide(text_ids: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengthscale, "SAMPLE_ROWS", 40)
    table = table_of(clustered(300, seed=1), text_ids=text_ids)
    expected = chosen_lengthscale(TableSource(table, "id", "embedding"), silent)
    assert expected != chosen(clustered(300, seed=1)[:40])
    for parts in (1, 7):
        folder = tmp_path / str(parts)
        folder.mkdir()
        mixed = table.take(np.random.default_rng(parts).permutation(300))
        for number, rows in enumerate(np.array_split(np.arange(300), parts)):
            pq.write_table(mixed.take(rows), folder / f"{number}.parquet", row_group_size=17)
        source = open_source(str(folder), id_column="id", embedding_column="embedding")
        assert chosen_lengthscale(source, silent) == expected


def test_bad_rows_are_left_out() -> None:
    rows = POOL.copy()
    rows[[3, 50]] = np.nan
    expected = select(np.delete(POOL, [3, 50], axis=0), TARGET, 3, features="random_fourier")
    found = select(rows, TARGET, 3, features="random_fourier", on_bad_row="skip")
    assert found.metrics["lengthscale"] == expected.metrics["lengthscale"]


@pytest.mark.usefixtures("small_blocks")
def test_it_is_said_recorded_resumed_and_verified(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    options, told = files.settings(pool=RBF), Listener()
    whole = files.run(replace(options, run=replace(options.run, report=True)), told)
    number, folder = whole.metrics["lengthscale"], files.folder / "run"
    assert any(line.startswith(f"lengthscale {number:g}: one pair of the pool's rows") for line in told.lines)
    assert json.loads((folder / "metrics.json").read_text())["lengthscale"] == number
    assert f"{number:g}" in (folder / "report.html").read_text()
    assert from_yaml((folder / "config.yaml").read_text(), CurationSettings).pool.lengthscale == number
    assert files.run(files.settings("set", pool={**RBF, "lengthscale": number})).ids == whole.ids
    assert planned(options).dim == 32

    stopped = files.settings("stopped", pool=RBF)
    with pytest.raises(InterruptedError):
        files.run(stopped, StopAfter(2))
    monkeypatch.setattr(lengthscale, "_distances", None)  # it is known by now, and not looked for again
    assert verify(VerifySettings(FinishedRun(str(folder)))).right
    told = Listener()
    resumed = files.run(stopped, told)
    assert (resumed.ids, resumed.metrics["lengthscale"]) == (whole.ids, number)
    assert f"lengthscale {number:g}: what was begun with it goes on with it" in told.lines
    with pytest.raises(RunDirectoryError, match=r"changed: pool\.lengthscale"):
        files.run(files.settings("stopped", pool={**RBF, "lengthscale": 2 * number}))


@pytest.mark.usefixtures("small_blocks")
def test_a_run_that_began_when_1_was_the_default_goes_on_with_it(files: Files) -> None:
    begun = files.settings(pool={**RBF, "lengthscale": 1.0})
    with pytest.raises(InterruptedError):
        files.run(begun, StopAfter(2))
    assert files.run(files.settings(pool=RBF)).metrics["lengthscale"] == 1.0


def test_ticks_keep_that_of_the_first(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    kept = []
    for part, tick in enumerate("abc"):
        record = growing.tick(tick, pool=RBF).record
        folder = Path(growing.location) / record.path
        kept.append(json.loads((folder / "metrics.json").read_text())["lengthscale"])
        assert verify(VerifySettings(FinishedRun(str(folder)))).right
        rows = 3 * clustered(growing.rows, seed=part + 20)
        pq.write_table(table_of(rows, first_id=1000 * (part + 1)), growing.pool / f"part-{part + 1:02d}.parquet")
    assert len(set(kept)) == 1
    whole = open_source(str(growing.pool), id_column="id", embedding_column="embedding")
    assert chosen_lengthscale(whole, silent) != kept[0]
    with pytest.raises(ConfigError, match=r"changed: pool\.lengthscale"):
        growing.tick("d", pool={**RBF, "lengthscale": 5.0})


def test_a_loaded_pool_has_one_for_all_selections(files: Files) -> None:
    half = pa.table({"id": files.table["id"], "embedding": files.table["embedding"], "half": np.arange(300) % 2})
    with ray_itl.open_pool(half, features="random_fourier") as pool:
        whole, part = pool.select(TARGET, 5), pool.select(TARGET, 5, filter="half = 1")
        with pytest.raises(ConfigError, match="lengthscale is fixed when a pool is opened"):
            pool.select(TARGET, 5, lengthscale=1.0)  # pyright: ignore[reportCallIssue]
        queries = pool.select_many({"a": TARGET}, 5)
    expected = select(half, TARGET, 5, features="random_fourier")
    number = expected.metrics["lengthscale"]
    assert (whole.ids, whole.metrics["lengthscale"]) == (expected.ids, number)
    assert queries["id"].to_pylist() == expected.ids
    again = select(half, TARGET, 5, features="random_fourier", filter="half = 1", lengthscale=number)
    assert (part.ids, part.metrics["lengthscale"]) == (again.ids, number)
    with ray_itl.open_pool(half, features="random_fourier", lengthscale=2.0) as pool:
        assert pool.select(TARGET, 5).metrics["lengthscale"] == 2.0


def test_queries_of_a_job_share_one(files: Files) -> None:
    asked = pq.read_table(files.target).append_column("prompt", [["a", "b"] * 6])
    pq.write_table(asked, files.target)
    options = files.settings(n=3, pool=RBF, target={"query_column": "prompt"})
    found = select_queries(options)
    assert select_queries(options).table.equals(found.table)
    assert verify(VerifySettings(FinishedRun(str(files.folder / "run")))).right
    source = open_source(str(files.pool), id_column="id", embedding_column="embedding")
    assert found.metrics["lengthscale"] == chosen_lengthscale(source, silent)


@pytest.mark.cluster
def test_shards_on_ray_have_the_same(files: Files) -> None:
    here = files.run(files.settings("here", pool=RBF))
    there = files.run(files.settings("there", pool=RBF, cluster={"num_shards": 2}))
    assert (there.ids, there.metrics["lengthscale"]) == (here.ids, here.metrics["lengthscale"])


def test_rows_that_are_all_equal_have_none() -> None:
    with pytest.raises(ConfigError, match=r"pool\.lengthscale=auto cannot be used: no two .* differ"):
        select(np.ones((5, 3)), TARGET[:, :3], 2, features="random_fourier")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengthscale": 0.5}, r"pool\.lengthscale=0\.5 cannot be used: set pool\.features=random_fourier"),
        ({"fourier_features": 64, "features": "unit_norm"}, r"pool\.fourier_features=64 cannot be used: set pool\.fea"),
        ({"lengthscale": "wide", **RBF}, r"pool\.lengthscale='wide' cannot be used: give auto or a positive number"),
        ({"lengthscale": True, **RBF}, r"pool\.lengthscale=True"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PoolSettings(**options)
