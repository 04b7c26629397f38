"""Ticks over tables, which go by version, and over folders into which files are still being written."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.curation.run import curate
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.summary import warnings_about
from ray_itl.errors import ConfigError, InputError, UnfinishedFileError
from ray_itl.io.listing import PoolPaths, list_files
from ray_itl.io.walk import Stamp
from ray_itl.sources.tables.listing import list_pool
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.helpers import clustered, table_of
from tests.sources.tables.writers import WRITERS, embeddings, rows
from tests.ticks.helpers import Growing


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    growing = Growing(tmp_path)
    growing.pool.rmdir()
    pq.write_table(pa.table({"embedding": list(embeddings(range(500, 506)))}), growing.target)
    return growing


def picks(growing: Growing) -> list[list[int]]:
    return [list(each) for each in growing.all_picks()]


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_each_tick_sees_the_newest_version(growing: Growing, kind: str) -> None:
    """New files are new rows; files that the table has replaced are no loss; what is deleted is not picked."""
    writer, targets = WRITERS[kind], embeddings(range(500, 506))
    writer.append(growing.pool, rows(0, 40))
    growing.tick("t0", n=5)
    (first,) = picks(growing)
    assert first == list(select(embeddings(range(40)), targets, n=5, noise_variance=0.1).ids)
    writer.append(growing.pool, rows(40, 70))
    writer.delete(growing.pool, f"id in ({first[0]}, 45, 50)")
    growing.tick("t1", n=100)
    second = picks(growing)[1]
    assert not set(second) & {*first, 45, 50}
    assert set(second) >= {each for each in range(40, 70) if each not in (45, 50)}
    growing.tick("t2", n=5)
    assert growing.records()[2].stop == "nothing_new"
    verify_all(growing)


def verify_all(growing: Growing) -> None:
    """Each tick is checked on the version that it saw."""
    for record in growing.records():
        folder = f"{growing.location}/{record.path}"
        verify(VerifySettings(run=FinishedRun(dir=folder)))


def test_a_run_on_an_older_version_can_be_checked(growing: Growing, tmp_path: Path) -> None:
    writer = WRITERS["delta"]
    writer.append(growing.pool, rows(0, 40))
    settings = growing.settings(None)
    settings.state.dir, settings.run.dir = None, str(tmp_path / "run")
    curate(settings)
    version = writer.version(growing.pool)
    writer.delete(growing.pool, "id < 20")
    verify(VerifySettings(run=FinishedRun(dir=settings.run.dir)))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert json.loads(manifest["pool_manifest"])["tables"] == [{"kind": "delta", "path": ".", "version": version}]


def test_columns_of_partitions_are_carried_filtered_and_limited(growing: Growing) -> None:
    for kind in ("delta", "iceberg"):
        folder = growing.folder / kind
        WRITERS[kind].append(folder, rows(0, 60), partition="lang")
        targets = embeddings(range(500, 506))
        found = select(
            folder, targets, n=6, columns=["lang"], filter="lang <> 'de'", quotas={"lang": {"en": {"max": 2}}}
        )
        memory = select(
            rows(0, 60), targets, n=6, columns=["lang"], filter="lang <> 'de'", quotas={"lang": {"en": {"max": 2}}}
        )
        assert list(found.ids) == list(memory.ids)
        assert found.table["lang"].to_pylist() == memory.table["lang"].to_pylist()


def write(growing: Growing, name: str, first: int, age_s: float) -> None:
    """Write a file of 20 rows that looks as if it had changed so many seconds ago."""
    growing.pool.mkdir(exist_ok=True)
    path = growing.pool / name
    pq.write_table(rows(first, first + 20), path)
    os.utime(path, (time.time() - age_s, time.time() - age_s))


@pytest.fixture
def by_mtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file be as old as its times say that tests can set."""
    monkeypatch.setattr("ray_itl.io.walk._local_stamp", lambda found: Stamp(found.st_size, found.st_mtime))


@pytest.mark.usefixtures("by_mtime")
def test_a_file_that_has_not_settled_is_for_the_next_tick(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    write(growing, "a.parquet", 0, 1000)
    write(growing, "b.parquet", 20, 10)
    asked = {"pool": {"settle_s": 100.0}, "run": {"log": "lines"}}
    first = growing.tick("t0", n=4, **asked)
    assert (first.record.new_files, first.record.new_rows) == (1, 20)
    assert set(picks(growing)[0]) <= set(range(20))
    told = capsys.readouterr()
    assert "passing over 1 file of the pool that changed less than pool.settle_s ago, such as b.parquet" in (
        told.out + told.err
    )
    metrics = json.loads(Path(growing.location, first.record.path, "metrics.json").read_text())
    assert metrics["unsettled_files"] == 1
    os.utime(growing.pool / "b.parquet", (1000, 1000))
    second = growing.tick("t1", n=4, **asked)
    assert (second.record.new_files, second.record.new_rows) == (1, 20)
    assert set(picks(growing)[1]) <= set(range(20, 40))
    assert "unsettled_files" not in json.loads(Path(growing.location, second.record.path, "metrics.json").read_text())


@pytest.mark.usefixtures("by_mtime")
def test_a_run_that_passed_over_a_file_can_be_checked_once_it_has_settled(growing: Growing, tmp_path: Path) -> None:
    write(growing, "a.parquet", 0, 1000)
    write(growing, "b.parquet", 20, 10)
    settings = growing.settings(None, n=4, pool={"settle_s": 100.0})
    settings.state.dir, settings.run.dir = None, str(tmp_path / "run")
    selection = curate(settings)
    assert set(selection.table["id"].to_pylist()) <= set(range(20))
    assert any("1 file of the pool that changed" in words for words in warnings_about(selection))
    os.utime(growing.pool / "b.parquet", (1000, 1000))
    verify(VerifySettings(run=FinishedRun(dir=settings.run.dir)))


@pytest.mark.usefixtures("by_mtime")
def test_half_a_file_that_has_not_settled_is_passed_over(growing: Growing) -> None:
    write(growing, "a.parquet", 0, 1000)
    (growing.pool / "b.parquet").write_bytes((growing.pool / "a.parquet").read_bytes()[:500])
    with pytest.raises(UnfinishedFileError, match=r"'b\.parquet'"):
        growing.tick("t0", n=4)
    assert growing.tick("t0", n=4, pool={"settle_s": 100.0}).record.new_rows == 20


@pytest.mark.usefixtures("by_mtime")
def test_where_nothing_has_settled_it_is_for_later(growing: Growing) -> None:
    write(growing, "a.parquet", 0, 10)
    with pytest.raises(UnfinishedFileError, match=r"younger than pool\.settle_s=100 \(a\.parquet\)"):
        growing.tick("t0", n=4, pool={"settle_s": 100.0})


@pytest.mark.usefixtures("by_mtime")
def test_a_file_of_an_earlier_tick_may_be_touched(growing: Growing) -> None:
    write(growing, "a.parquet", 0, 1000)
    write(growing, "b.parquet", 20, 1000)
    growing.tick("t0", n=4)
    os.utime(growing.pool / "b.parquet")
    assert growing.tick("t1", n=4, pool={"settle_s": 100.0}).record.stop == "nothing_new"


def test_age_is_told_by_the_clock_of_the_filesystem_that_was_written_to(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock is a day ahead, so that by it every file would be old."""
    write(growing, "a.parquet", 0, 0)
    written = tmp_path / "written"
    written.touch()
    ahead = time.time() + 86400
    monkeypatch.setattr("time.time", lambda: ahead)
    local = list_files([str(growing.pool)]).filesystem
    asked = PoolPaths((str(growing.pool),), settle_s=60)
    assert list_pool(asked).paths == ("a.parquet",)
    with pytest.raises(UnfinishedFileError):
        list_pool(PoolPaths(asked.paths, settle_s=60, written_now=(local, str(written))))
    assert list_pool(PoolPaths(asked.paths, settle_s=60, written_now=(local, str(tmp_path / "nosuch")))).paths


def test_the_time_of_a_tick_is_that_of_its_lease(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    write(growing, "a.parquet", 0, 0)
    ahead = time.time() + 86400
    monkeypatch.setattr("time.time", lambda: ahead)
    with pytest.raises(UnfinishedFileError, match="younger than"):
        growing.tick("t0", n=4, pool={"settle_s": 3600.0})


def test_the_settings_are_checked() -> None:
    wrong: list[dict[str, Any]] = [{"settle_s": -1.0}, {"version": -1}, {"version": "a"}]
    for option in wrong:
        with pytest.raises(ConfigError, match=rf"pool\.{next(iter(option))}"):
            type(CurationSettings().pool)(**option)


def test_rows_that_vanish_from_a_folder_of_files_are_still_refused(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    pq.write_table(table_of(clustered(10, seed=3), first_id=5000), growing.pool / "a.parquet")
    growing.grow(0)
    growing.tick("t0")
    (growing.pool / "a.parquet").unlink()
    with pytest.raises(InputError, match="no longer what they were"):
        growing.tick("t1")
    assert np.isfinite(growing.records()[0].gain)
