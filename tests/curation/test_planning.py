"""Plans say what a run would take; runs on disk pick what runs in memory pick, and may continue one another."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ray_itl.curation.inputs import Inputs
from ray_itl.curation.planning import expected_passes, planned
from ray_itl.errors import CacheError, ConfigError
from ray_itl.shards.loading import STORAGE_DTYPES
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import DIM, Files
from tests.jobs.helpers import compose_job, load_job


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def on_disk(files: Files, **cluster: Any) -> dict[str, Any]:
    return {
        "pool": {"storage": "disk"},
        "cluster": {"cache_dir": str(files.folder / "cache"), "cache_limit": "1MiB", **cluster},
    }


def entries(files: Files) -> list[Path]:
    return [path for path in (files.folder / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("rule", ["itl", "vtl", "nearest", "random"])
def test_a_run_on_disk_picks_what_one_in_memory_picks(files: Files, rule: str) -> None:
    changes: dict[str, Any] = {"acquisition": {"name": rule}}
    expected = files.run(files.settings("memory", **changes))
    listener = Listener()
    found = files.run(files.settings("disk", **changes, **on_disk(files)), listener)
    assert found.table.equals(expected.table)
    assert any("features on disk" in line for line in listener.lines)
    assert len(entries(files)) == 1


def test_later_runs_use_the_same_entry_as_long_as_features_are_the_same(files: Files) -> None:
    disk = on_disk(files)
    files.run(files.settings("a", **disk))
    (first,) = entries(files)
    used = (first / "lock").stat().st_mtime_ns
    files.run(files.settings("b", n=5, acquisition={"noise_variance": 0.3}, **disk))
    assert entries(files) == [first]
    assert (first / "lock").stat().st_mtime_ns > used
    disk["pool"]["features"] = "unit_norm"
    files.run(files.settings("c", **disk))
    assert len(entries(files)) == 2


@pytest.mark.usefixtures("small_blocks")
def test_a_run_begun_in_memory_continues_on_disk(files: Files) -> None:
    whole = files.run(files.settings(run=None, n=24))
    with pytest.raises(InterruptedError):
        files.run(files.settings(n=24), StopAfter(2))
    assert files.run(files.settings(n=24, **on_disk(files))).ids == whole.ids


def test_rows_in_memory_can_be_kept_on_disk(files: Files) -> None:
    rows = pq.read_table(files.target)
    expected = files.run(files.settings(run=None))
    settings = files.settings(run=None, **on_disk(files))
    from ray_itl.curation.run import curate

    assert curate(settings, Inputs(files.table, rows)).ids == expected.ids


def test_a_limit_of_the_cache_that_is_too_small_ends_the_run_and_leaves_nothing(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.cache_limit=1 KiB"):
        files.run(files.settings(**on_disk(files, cache_limit="1KiB")))
    assert not (files.folder / "run").exists()
    (files.folder / "file").touch()
    with pytest.raises(CacheError, match=r"file/cache"):
        files.run(files.settings(**on_disk(files, cache_dir=str(files.folder / "file" / "cache"))))


@pytest.mark.parametrize("storage", ["memory", "disk", "auto"])
@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
def test_a_plan_has_the_sizes_of_the_pool(files: Files, storage: str, dtype: str) -> None:
    disk = on_disk(files)
    plan = planned(files.settings(pool={"storage": storage, "dtype": dtype}, cluster=disk["cluster"]))
    assert plan.shard.feature_bytes == 300 * DIM * STORAGE_DTYPES[dtype].itemsize
    assert plan.shards.on_disk == (storage == "disk")
    assert plan.load_seconds > 0
    assert plan.pass_seconds > 0
    text = plan.table()
    assert f"300 rows x {DIM} features, {dtype}" in text
    assert ("cache" in text) == (storage == "disk")
    assert not (files.folder / "cache").exists()


def test_auto_goes_to_disk_beyond_the_memory_of_a_shard(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = files.settings(cluster={"memory_per_shard": "650MiB"})
    assert not planned(settings).shards.on_disk
    monkeypatch.setattr("ray_itl.shards.footprint._MARGIN", 1e5)
    plan = planned(files.settings(cluster={"memory_per_shard": "1.7GiB"}))
    assert plan.shards.on_disk
    assert "cluster.memory_per_shard=1.7 GiB" in plan.table()
    with pytest.raises(ConfigError, match=r"cluster\.memory_per_shard=650 MiB.*300 rows"):
        planned(settings)


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, (2, 3)),
        ({"selection": {"n": 101}}, (4, 12)),
        ({"acquisition": {"name": "nearest"}}, (1, 1)),
        ({"acquisition": {"name": "random"}}, (0, 0)),
        ({"evaluation": {"class_column": "text", "classes": ["a"]}}, (3, 4)),
    ],
)
def test_passes_expected(files: Files, changes: dict[str, Any], passes: tuple[int, int]) -> None:
    assert expected_passes(files.settings(**changes)) == passes


def test_the_job_prints_the_plan_and_leaves_nothing_behind(
    files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.folder)
    before = sorted(files.folder.rglob("*"))
    paths = [f"pool.path={files.pool}", f"target.path={files.target}"]
    for where in (paths, []):
        load_job("curate").main(compose_job("curate", *where, "plan=true", "cluster.num_shards=0"))
        shown = capsys.readouterr().out
        assert "passes expected     " in shown
        assert ("300 rows" in shown) == bool(where)
    assert sorted(files.folder.rglob("*")) == before


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_plan_for_a_cluster(files: Files) -> None:
    plan = planned(files.settings(cluster={"num_shards": 2, "address": "local"}, pool={"storage": "disk"}))
    assert (plan.shards.num_shards, plan.shard.num_rows, plan.in_process) == (2, 150, False)
    assert "2, on Ray" in plan.table()
