"""selection.n as a percentage of the rows that may be picked: a number once the pool is open, and on record as that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.api import select
from ray_itl.curation.percentage import number_among, percentage
from ray_itl.curation.planning import planned
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.observability.reporter import Reporter
from ray_itl.options.text import from_yaml
from tests.curation.test_curation import StopAfter
from tests.helpers import Files, clustered, table_of
from tests.ticks.helpers import Growing
from tests.verification.test_verification import check


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@given(st.integers(1, 10_000), st.integers(1, 10**9))
def test_it_is_rounded_down_and_at_least_1(hundredths: int, num_rows: int) -> None:
    whole, rest = divmod(hundredths, 100)
    assert number_among(f"{whole}.{rest:02d}%", num_rows) == max(1, hundredths * num_rows // 10_000)


BAD = ["0%", "0.0%", "100.1%", "120%", "5 %", " 5%", "x%", "%", "-5%", "1e1%", "5%%", "5.%", "\u0665%", "5", "many"]


@pytest.mark.parametrize("n", BAD)
def test_bad_ones_are_refused_in_one_line(n: str) -> None:
    assert percentage(n) is None
    if n != "5":
        with pytest.raises(ConfigError, match=r"^selection\.n='.*' cannot be used: give a whole number .* like 5%$"):
            SelectionSettings(n=n)


def test_a_number_as_a_text_is_a_number() -> None:
    assert SelectionSettings(n=" 20 ") == SelectionSettings(n=20)


@pytest.mark.parametrize(
    ("options", "picks"),
    [
        ({}, 15),
        ({"pool": {"filter": "weight = 1"}}, 5),
        ({"selection": {"exclude": "some.parquet"}}, 10),
        ({"selection": {"include": "some.parquet"}}, 10),
        ({"selection": {"replacement": True}}, 15),
        ({"acquisition": {"name": "nearest"}}, 15),
        ({"pool": {"columns": ["text"]}, "selection": {"quotas": {"weight": {1: {"max": 0.2}}}}}, 15),
    ],
    ids=["all", "filter", "exclude", "include", "replacement", "baseline", "quotas"],
)
def test_it_is_one_of_the_rows_that_may_be_picked(files: Files, options: dict[str, Any], picks: int) -> None:
    pq.write_table(pa.table({"id": files.table.column("id").slice(0, 100)}), files.folder / "some.parquet")
    chosen = {
        name: str(files.folder / value) if name in ("exclude", "include") else value
        for name, value in options.get("selection", {}).items()
    }
    options = {**options, "selection": {**chosen, "n": "5%"}}
    found = files.run(files.settings(**options))
    assert (len(found), found.metrics["num_asked"]) == (picks, picks)
    options["selection"]["n"] = picks
    assert found.ids == files.run(files.settings("by number", **options)).ids


def test_the_number_is_on_record_said_and_replayed(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    settings = files.settings(selection={"n": "5%"})
    first = files.run(settings, Reporter("lines"))
    assert "selection.n=5% of 300 rows: 15" in "".join(capsys.readouterr())
    run = files.folder / "run"
    assert json.loads((run / "manifest.json").read_text())["identity"]["selection.n"] == "15"
    recorded = from_yaml((run / "config.yaml").read_text(), CurationSettings)
    assert recorded.selection.n == json.loads((run / "metrics.json").read_text())["num_asked"] == 15
    assert files.run(recorded).ids == files.run(settings).ids == first.ids
    assert check(run).right


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_run_goes_on_with_the_same_number_and_refuses_another(files: Files) -> None:
    settings = files.settings(selection={"n": "5%"})
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(1))
    with pytest.raises(RunDirectoryError, match=r"changed: selection\.n\)"):
        files.run(files.settings(selection={"n": "6%"}))
    whole = files.run(files.settings("whole", selection={"n": 15}))
    assert files.run(settings).ids == whole.ids


def test_a_plan_says_what_it_comes_to_and_sees_runs_there(files: Files) -> None:
    settings = files.settings(selection={"n": "5%"})
    assert "selection.n=5% of 300 rows: 15" in planned(settings).table()
    files.run(files.settings(selection={"n": 15}))
    planned(settings)
    with pytest.raises(RunDirectoryError, match=r"changed: selection\.n\)"):
        planned(files.settings(selection={"n": "50%"}))


def test_select_takes_it() -> None:
    rows, targets = clustered(200, seed=1), clustered(5, seed=2)
    assert len(select(rows, targets, "5%")) == 10
    assert len(select(rows, targets, "0.1%", exclude=np.arange(10))) == 1
    with pytest.raises(ConfigError, match=r"^selection\.n='0%' cannot be used"):
        select(rows, targets, "0%")


@pytest.mark.parametrize(("candidates", "second"), [("new", 6), ("all", 11)])
def test_of_a_tick_it_is_one_of_its_candidates(tmp_path: Path, candidates: str, second: int) -> None:
    growing = Growing(tmp_path)
    asked: dict[str, Any] = {"selection": {"n": "10%"}, "state": {"candidates": candidates}}
    for part, tick in enumerate("ab"):
        growing.grow(part)
        growing.tick(tick, **asked)
    growing.tick("c", **asked)
    third = 10 if candidates == "all" else 0  # of 120 rows 17 were picked
    records = growing.records()
    assert [record.picks for record in records] == [6, second, third]
    assert [record.stop for record in records] == ["n", "n", "n" if third else "nothing_new"]
    for record in records:
        folder = Path(growing.location) / record.path
        assert from_yaml((folder / "config.yaml").read_text(), CurationSettings).selection.n == max(1, record.picks)
        assert check(folder).right
    again = growing.tick("b", **asked)
    assert (again.is_new, again.record.picks) == (False, second)


def test_rows_that_turn_out_bad_count(tmp_path: Path) -> None:
    files = Files(tmp_path)
    rows = clustered(100, seed=4)
    rows[:50] = np.nan
    pq.write_table(table_of(rows, first_id=1000), files.pool / "part-3.parquet")
    found = files.run(files.settings(selection={"n": "5%"}, pool={"on_bad_row": "skip"}))
    assert (len(found), found.metrics["skipped_rows"]) == (20, 50)
