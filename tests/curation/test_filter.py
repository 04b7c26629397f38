"""Runs on those rows of a pool that meet a condition: the picks are those from a pool of these rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files

_CONDITION = "weight >= 2 and text like '%1%'"


def _meeting(table: pa.Table) -> pa.Table:
    return table.filter(
        (pc.field("weight") >= 2) & pc.field("text").isin([f"text {i}" for i in range(300) if "1" in str(i)])
    )


@pytest.fixture
def expected(tmp_path: Path) -> list[Any]:
    """The picks from a pool of the rows that meet the condition."""
    files = Files(tmp_path / "those")
    for path in sorted(files.pool.iterdir()):
        pq.write_table(_meeting(pq.read_table(path)), path)
    return files.run(files.settings()).ids


@pytest.mark.parametrize("storage", ["memory", "disk"])
@pytest.mark.usefixtures("small_blocks")
def test_a_run_with_a_filter(tmp_path: Path, expected: list[Any], storage: str) -> None:
    _check_run(tmp_path, expected, 0, storage)


@pytest.mark.cluster
@pytest.mark.parametrize("storage", ["memory", "disk"])
@pytest.mark.usefixtures("small_blocks", "cluster")
def test_a_run_with_a_filter_on_ray(tmp_path: Path, expected: list[Any], storage: str) -> None:
    _check_run(tmp_path, expected, 2, storage)


def _check_run(tmp_path: Path, expected: list[Any], num_shards: int, storage: str) -> None:
    files = Files(tmp_path)
    cluster = {"num_shards": num_shards, "cache_dir": str(tmp_path / "cache")}
    pool = {"storage": storage, "filter": _CONDITION, "columns": ["text"]}
    listener = Listener()
    selection = files.run(files.settings(pool=pool, cluster=cluster), listener)
    assert selection.ids == expected
    assert selection.metrics["num_rows"] == _meeting(files.table).num_rows
    assert f"{selection.metrics['num_rows']} rows meet pool.filter" in listener.lines
    for row in selection.table.to_pylist():
        own = pq.read_table(files.pool / row["file"]).slice(row["row"], 1).to_pylist()[0]
        assert (own["id"], own["text"]) == (row["id"], row["text"])
    assert verify(VerifySettings(run=FinishedRun(str(tmp_path / "run")))).right


@pytest.mark.usefixtures("small_blocks")
def test_a_filtered_run_goes_on_where_it_stopped_and_not_with_another_filter(
    tmp_path: Path, expected: list[Any]
) -> None:
    files = Files(tmp_path)
    settings = files.settings(pool={"filter": _CONDITION})
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(1))
    for other in (None, "weight >= 1"):
        with pytest.raises(RunDirectoryError, match=r"pool\.filter"):
            files.run(files.settings(pool={"filter": other}))
    assert files.run(settings).ids == expected


def test_rows_in_memory(tmp_path: Path, expected: list[Any]) -> None:
    files = Files(tmp_path)
    target = pq.read_table(files.target)
    selection = select(files.table, target, 12, filter=_CONDITION, noise_variance=1.0)
    assert selection.ids == expected
    rows = files.table.column("id").take(selection.table.column("row"))
    assert rows.to_pylist() == expected


def test_more_picks_than_rows_that_meet_it(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with pytest.raises(ConfigError, match=r"selection\.n=12, but the pool has 2 rows that meet pool\.filter: ask for"):
        files.run(files.settings(pool={"filter": "text in ('text 7', 'text 70')"}))
    assert not (tmp_path / "run").exists()
