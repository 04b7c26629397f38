"""A plan promises nothing that the run refuses; what can be known is said before a row is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.curation import beforehand
from ray_itl.curation.planning import planned
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError, MissingExtraError, RayItlError
from ray_itl.shards.loading import RowRange
from tests.combinations import covering
from tests.helpers import Files

ROWS = 90


class Case(NamedTuple):
    """What one option set has in a group; the name is the test's."""

    name: str
    options: dict[str, dict[str, Any]]
    prepare: Callable[[Files], object] = lambda _: None


def strangers(files: Files) -> None:
    (files.folder / "run").mkdir()
    (files.folder / "run" / "notes.txt").touch()


def other_run(files: Files) -> None:
    files.run(files.settings(n=3, acquisition={"noise_variance": 7.0}))


def same_run(files: Files) -> None:
    files.run(files.settings(n=3))


def file_in_the_way(files: Files) -> None:
    (files.folder / "run").touch()


FACTORS: list[list[Case]] = [
    [
        Case("itl", {}),
        Case("vtl", {"acquisition": {"name": "vtl"}}),
        Case("nearest", {"acquisition": {"name": "nearest"}}),
        Case("random", {"acquisition": {"name": "random"}}),
    ],
    [Case("n=5", {}), Case("all", {"selection": {"n": ROWS}}), Case("too many", {"selection": {"n": ROWS + 1}})],
    [
        Case("nothing carried", {}),
        Case("text", {"pool": {"columns": ["text"]}}),
        Case("ours", {"pool": {"columns": ["gain"]}}),
        Case("none such", {"pool": {"columns": ["nosuch"]}}),
    ],
    [
        Case("in memory", {}),
        Case("on disk", {"pool": {"storage": "disk"}, "cluster": {"cache_limit": "1MiB"}}),
        Case("a small cache", {"pool": {"storage": "disk"}, "cluster": {"cache_limit": "1KiB"}}),
    ],
    [
        Case("free", {}),
        Case("excluded", {"selection": {"exclude": "some.parquet"}}),
        Case("all excluded", {"selection": {"exclude": "pool"}}),
        Case("included", {"selection": {"include": "some.parquet"}}),
        Case("strangers included", {"selection": {"include": "strange.parquet"}}),
    ],
    [
        Case("no limit", {}),
        Case("quotas", {"selection": {"quotas": {"kind": {"a": {"max": 50}, "b": {"min": 2}}}}}),
        Case("too high a minimum", {"selection": {"quotas": {"kind": {"a": {"min": 60}}}}}),
        Case("no such column", {"selection": {"quotas": {"nosuch": {"a": {"min": 1}}}}}),
        Case("budget", {"selection": {"cost_column": "weight", "budget": 9.0}}),
        Case("costs that are text", {"selection": {"cost_column": "text", "budget": 9.0}}),
        Case("bad costs", {"selection": {"cost_column": "badly", "budget": 9.0}}),
        Case("bad costs skipped", {"selection": {"cost_column": "badly"}, "pool": {"on_bad_row": "skip"}}),
    ],
    [
        Case("a new folder", {}),
        Case("strangers there", {}, strangers),
        Case("another run there", {}, other_run),
        Case("this run there", {}, same_run),
        Case("a file in the way", {}, file_in_the_way),
        Case("below a file", {"run": {"dir": "target.parquet/run"}}),
    ],
]


REFUSED = {
    *("too many", "ours", "none such", "a small cache", "strangers included", "too high a minimum", "no such column"),
    *("costs that are text", "bad costs", "strangers there", "another run there", "this run there"),
    *("a file in the way", "below a file"),
}


def _write(files: Files) -> None:
    """Give the pool further columns, and write lists of ids."""
    for path in files.pool.iterdir():
        table = pq.read_table(path)
        count = len(table)
        table = table.append_column("kind", pa.array(["ab"[row % 2] for row in range(count)]))
        costs = [None if row == 3 and path.name == "part-1.parquet" else 1.0 for row in range(count)]
        pq.write_table(table.append_column("badly", pa.array(costs)), path)
    ids = pq.read_table(files.pool / "part-0.parquet").select(["id"])
    pq.write_table(ids.slice(0, 4), files.folder / "some.parquet")
    pq.write_table(pa.table({"id": [10_000]}), files.folder / "strange.parquet")


def _settings(files: Files, cases: tuple[Case, ...]) -> CurationSettings:
    groups: dict[str, Any] = {"selection": {"n": 5}, "cluster": {"cache_dir": str(files.folder / "cache")}}
    for case in cases:
        for group, options in case.options.items():
            groups[group] = {**groups.get(group, {}), **options}
    for name in ("exclude", "include"):
        if name in groups["selection"]:
            groups["selection"][name] = str(files.folder / groups["selection"][name])
    return files.settings(groups.pop("run", {}).get("dir", "run"), **groups)


def outcome(call: Callable[[CurationSettings], object], settings: CurationSettings) -> type[RayItlError] | None:
    try:
        call(settings)
    except RayItlError as error:
        return type(error)
    return None


def test_what_is_planned_can_be_run(tmp_path: Path) -> None:
    """Every choice of two, and of two that are fine alone; a plan that refuses says what the run says."""
    fine = [[case for case in cases if case.name not in REFUSED] for cases in FACTORS]
    original = Files(tmp_path / "original", ROWS)
    _write(original)
    runs = refused = 0
    for number, cases in enumerate([*covering(FACTORS, 2), *covering(fine, 2)]):
        files = Files.__new__(Files)
        folder = tmp_path / f"{number}"
        shutil.copytree(original.folder, folder)
        files.__dict__ = {**original.__dict__, "folder": folder}
        files.pool, files.target, files.known = (folder / name for name in ("pool", "target.parquet", "known.parquet"))
        names = " + ".join(case.name for case in cases)
        try:
            settings = _settings(files, cases)
        except ConfigError:
            continue
        for case in cases:
            case.prepare(files)
        before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
        plan = outcome(planned, settings)
        assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before, names
        run = outcome(files.run, settings)
        assert plan == run, f"{names}: the plan {plan}, the run {run}"
        runs += 1
        refused += run is not None
        shutil.rmtree(folder)
    assert runs >= 45
    assert 20 <= refused <= runs - 10


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a row was loaded")

    monkeypatch.setattr(RowRange, "load", loaded)


def test_a_full_disk_is_said_before_a_row_is_loaded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    no_loading(monkeypatch)
    usage = shutil.disk_usage(files.folder)
    monkeypatch.setattr(beforehand.shutil, "disk_usage", lambda _: usage._replace(free=1500))
    for call in (files.run, planned):
        with pytest.raises(ConfigError, match=r"run\.dir=.* has 1\.465 KiB free, but results take about [0-9.]+ KiB"):
            call(files.settings())
    assert not (files.folder / "run").exists()


def test_large_columns_are_weighed(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    no_loading(monkeypatch)
    path = files.pool / "part-0.parquet"
    table = pq.read_table(path)
    for part in range(3):
        path = files.pool / f"part-{part}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.append_column("image", pa.array([bytes(100_000)] * len(table))), path)
    usage = shutil.disk_usage(files.folder)
    monkeypatch.setattr(beforehand.shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    with pytest.raises(ConfigError, match=r"take about .*MiB: free some space.*carry fewer pool\.columns"):
        files.run(files.settings(n=100, pool={"columns": ["image"]}))
    monkeypatch.undo()
    monkeypatch.setattr(beforehand.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    plan = planned(files.settings(n=12, pool={"columns": ["image"]}))
    assert "judged by 32 rows" in plan.table()


def test_baselines_count_the_rows_that_are_left(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    no_loading(monkeypatch)
    pq.write_table(files.table.select(["id"]).slice(0, 200), files.folder / "some.parquet")
    chosen = {"exclude": str(files.folder / "some.parquet")}
    for call in (files.run, planned):
        with pytest.raises(ConfigError, match=r"selection\.n=101, but the pool has 100 rows to pick from"):
            call(files.settings(n=101, acquisition={"name": "nearest"}, selection=chosen | {"n": 101}))


def test_libraries_are_looked_for(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    no_loading(monkeypatch)

    def missing(module: str, needed_by: str, extra: str) -> None:
        raise MissingExtraError(f'{needed_by} needs {module}: pip install "ray_itl[{extra}]"')

    monkeypatch.setattr(beforehand, "load_extra", missing)
    for call in (files.run, planned):
        with pytest.raises(MissingExtraError, match=r"tracking\.tensorboard_dir"):
            call(files.settings(tracking={"tensorboard_dir": str(files.folder / "board")}))
    settings = files.settings()
    settings.run.report = True
    assert "there will be no report.html: run.report needs plotly" in planned(settings).table()


def test_a_tick_may_find_fewer_rows_than_it_asks_for(files: Files) -> None:
    settings = files.settings(run=None, n=400, state={"dir": str(files.folder / "state")})
    assert planned(settings).num_rows == 300
    assert not (files.folder / "state").exists()


def test_plans_name_the_bad_rows_that_they_meet(files: Files) -> None:
    table = files.table
    rows = np.array(table.column("embedding").to_pylist(), dtype=np.float32)
    rows[[1, 5]] = np.nan
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    pq.write_table(table.set_column(1, "embedding", lists), files.pool / "part-0.parquet")
    for name in ("part-1.parquet", "part-2.parquet"):
        (files.pool / name).unlink()
    with pytest.raises(RayItlError, match=r"^2 rows cannot be used: .*row 1 .*row 5 .*pool\.on_bad_row=skip"):
        planned(files.settings())
    assert planned(files.settings(pool={"on_bad_row": "skip"})).num_rows == 300
