"""Runs on JSON lines and CSV without ids: the picks of the same rows in Parquet, resumed, checked, and over ticks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from ray_itl.curation.inputs import Inputs
from ray_itl.curation.run import curate
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import StopAfter
from tests.helpers import DIM, Files, clustered
from tests.ticks.helpers import Growing


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    return Files(tmp_path)


def as_lines(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in table.drop_columns(["id"]).to_pylist()))
    return path


def write_lines(files: Files) -> dict[str, Any]:
    """Write the pool and the targets as JSON lines without ids; return the options that name them."""
    for part in sorted(files.pool.iterdir()):
        as_lines(pq.read_table(part), files.folder / "texts" / f"{part.stem}.jsonl")
    target = as_lines(pq.read_table(files.target), files.folder / "target.jsonl")
    return {"pool": {"path": str(files.folder / "texts")}, "target": {"path": str(target)}}


def names(ids: list[Any], pool: Path) -> list[str]:
    """What rows of the Parquet pool are called in the lines."""
    places = {}
    for part in sorted(pool.iterdir()):
        places |= {row: f"{part.stem}.jsonl:{i}" for i, row in enumerate(pq.read_table(part)["id"].to_pylist())}
    return [places[row] for row in ids]


@pytest.mark.usefixtures("small_blocks")
def test_a_run_on_lines_picks_what_one_on_parquet_picks_resumed_and_checked(files: Files) -> None:
    expected = names(files.run(files.settings("parquet", n=24)).ids, files.pool)
    lines = write_lines(files)
    with pytest.raises(InterruptedError):
        files.run(files.settings("lines", n=24, **lines), StopAfter(2))
    assert files.run(files.settings("lines", n=24, **lines)).ids == expected
    found = verify(VerifySettings(FinishedRun(str(files.folder / "lines"))))
    assert (found.num_steps, found.contradictions, found.wrong, found.wrong_gains) == (24, [], [], [])


def in_form(settings: CurationSettings, output: str) -> CurationSettings:
    return replace(settings, run=replace(settings.run, output=output))


def rows_of(files: Files) -> dict[str, dict[str, Any]]:
    """The rows of the texts by their names, without embeddings."""
    rows = {}
    for path in sorted((files.folder / "texts").iterdir()):
        for i, line in enumerate(path.read_text().splitlines()):
            rows[f"{path.name}:{i}"] = {k: v for k, v in json.loads(line).items() if k != "embedding"}
    return rows


def test_picks_come_back_as_the_lines_that_they_were(files: Files) -> None:
    lines = write_lines(files)
    with (files.folder / "texts" / "part-2.jsonl").open("a") as file:
        file.write(json.dumps({"text": "ß", "messages": [{"role": "user"}], "embedding": [9.0] * DIM}) + "\n")
    selection = files.run(files.settings("run", **lines))
    expected = [rows_of(files)[str(name)] for name in selection.ids]
    assert any("messages" in row for row in expected)
    written = files.folder / "run" / "selection.jsonl"
    assert [json.loads(line) for line in written.read_text().splitlines()] == expected
    written.unlink()
    files.run(files.settings("run", **lines))  # finished already: written again
    assert [json.loads(line) for line in written.read_text().splitlines()] == expected


def test_a_form_may_be_asked_for(files: Files) -> None:
    selection = files.run(in_form(files.settings("csv"), "csv"))
    table = pacsv.read_csv(files.folder / "csv" / "selection.csv")
    assert table["id"].to_pylist() == selection.ids
    assert "embedding" not in table.column_names
    files.run(files.settings("plain"))
    assert not list((files.folder / "plain").glob("selection.[cj]*"))
    lines = write_lines(files)
    files.run(in_form(files.settings("parquet", **lines), "parquet"))
    assert not (files.folder / "parquet" / "selection.jsonl").exists()


def test_rows_without_columns_have_no_form(tmp_path: Path) -> None:
    rows = clustered(40, seed=1)
    settings = in_form(Files(tmp_path).settings("run", n=3), "jsonl")
    with pytest.raises(ConfigError, match=r"run\.output=jsonl, but the pool is an array"):
        curate(settings, Inputs(rows, rows[:5]))
    assert not (tmp_path / "run").exists()


def test_exclusions_name_rows_as_results_do(files: Files) -> None:
    lines = write_lines(files)
    first = files.run(files.settings("first", **lines))
    pq.write_table(pa.table({"id": first.ids[:3]}), files.folder / "exclude.parquet")
    chosen: dict[str, Any] = {"selection": {"exclude": str(files.folder / "exclude.parquet")}}
    second = files.run(files.settings("second", **lines, **chosen))
    assert not set(first.ids[:3]) & set(second.ids)


def test_nights_of_new_lines_pick_what_nights_of_parquet_pick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    growing = Growing(tmp_path / "night")
    texts, state = tmp_path / "texts", str(tmp_path / "state of texts")
    for night in range(3):
        growing.grow(night)
        part = sorted(growing.pool.iterdir())[-1]
        as_lines(pq.read_table(part), texts / f"{part.stem}.jsonl")
        growing.tick(f"night-{night}")
        growing.tick(f"night-{night}", pool={"path": str(texts)}, state={"dir": state})
    expected = [names(picks, growing.pool) for picks in growing.all_picks()]
    growing.location = state
    assert growing.all_picks() == expected


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_shards_read_lines_by_themselves(files: Files) -> None:
    lines = write_lines(files)
    expected = files.run(files.settings("here", **lines)).ids
    found = files.run(files.settings("shards", **lines, cluster={"num_shards": 2, "cpus_per_shard": 0.1}))
    assert found.ids == expected
    assert (files.folder / "shards" / "selection.jsonl").read_bytes() == (
        files.folder / "here" / "selection.jsonl"
    ).read_bytes()
