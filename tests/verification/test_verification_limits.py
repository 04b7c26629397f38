"""Runs within limits are found right; picks that break one, and ends without their reason, are found out."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.core.rules import cosines, unit_rows
from ray_itl.runs.ledger import Ledger
from ray_itl.verification.verify import Verification
from tests.helpers import Files
from tests.verification.test_verification import check, put, rewrite, swap

pytestmark = pytest.mark.usefixtures("small_blocks")

_N = 20
_QUOTAS = {"lang": {"de": {"min": 3}, "*": {"max": 0.5}}, "source": {"web": {"max": 12}}}
_BOUNDS = {"cost_column": "tokens", "budget": 90.0, "quotas": _QUOTAS, "min_distance": 0.05, "near_target": "exclude"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files whose rows have costs, languages and sources, with targets of two tasks and two lists of ids."""
    files = Files(tmp_path_factory.mktemp("limited"))
    rng = np.random.default_rng(0)
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        size = table.num_rows
        table = table.append_column("tokens", pa.array(rng.integers(1, 9, size)))
        table = table.append_column("lang", pa.array(rng.choice(["de", "en", "fr"], size, p=[0.05, 0.75, 0.2])))
        pq.write_table(table.append_column("source", pa.array(rng.choice(["books", "web"], size))), path)
    files.table = pq.read_table(files.pool)
    target = pq.read_table(files.target)
    pq.write_table(target.append_column("task", pa.array(["a", "b", "b"] * 4)), files.target)
    ids = files.table.column("id")
    pq.write_table(pa.table({"id": ids.slice(0, 40)}), files.folder / "out.parquet")
    pq.write_table(pa.table({"id": ids.slice(90, 5)}), files.folder / "in.parquet")
    return files


def _options(files: Files, name: str) -> dict[str, Any]:
    lists = {"exclude": str(files.folder / "out.parquet"), "include": str(files.folder / "in.parquet")}
    tasks = {"task_column": "task", "task_weights": {"b": 0.4}}
    avoid = {"path": str(files.known), "weight": 0.3}
    priced = {"cost_column": "tokens", "budget": 60.0}
    return {
        "bounds": {"selection": {**_BOUNDS, **lists}, "known": {"path": str(files.known)}},
        "worth": {"selection": {**priced, **lists, "per_cost": True, "min_gain": 0.02}, "target": tasks},
        "vtl": {
            "selection": {"cost_column": "tokens", "min_gain": 0.01},
            "acquisition": {"name": "vtl"},
            "target": tasks,
            "avoid": avoid,
        },
        "share": {"selection": {"share": 0.5, **lists}, "target": tasks, "avoid": avoid},
        "rows": {"selection": {"min_distance": 0.4, "quotas": {"lang": {"de": {"min": 5}}}}},
    }[name]


_STOPS = {"bounds": "n", "worth": "min_gain", "vtl": "min_gain", "share": "share", "rows": "no_rows"}


@pytest.fixture
def run(files: Files, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A finished run of its own, to tamper with."""
    made = files.folder / request.param
    if not made.exists():
        files.run(files.settings(request.param, n=_N, **_options(files, request.param)))
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.mark.parametrize("run", _STOPS, indirect=True)
def test_right_runs_are_right(run: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["run"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["stop"] == _STOPS[name]
    found = check(run)
    assert found.right, found.summary().text
    assert found.num_steps == found.num_picks > 3
    assert found.num_rows == 300 - (45 if name in ("bounds", "worth", "share") else 0)
    few = check(run, sample=5, max_steps=4)
    assert few.right, few.summary().text


def _rows(table: pa.Table) -> torch.Tensor:
    return torch.tensor(np.array(table.column("embedding").to_pylist()))


@pytest.mark.parametrize("run", ["bounds", "worth", "share"], indirect=True)
def test_two_picks_swapped(run: Path) -> None:
    rewrite(run, swap, ledger=True)
    found = check(run)
    assert found.wrong[0].rank == 3
    assert found.wrong[0].better_value > found.wrong[0].value
    assert found.wrong_gains[0].rank == 3


def _with_row(files: Files, run: Path, rank: int, row: int) -> Verification:
    """Check a run after one of its picks was exchanged for a row of the pool."""
    columns = files.table.select(["id", "tokens"]).slice(row, 1).to_pylist()[0]

    def change(table: pa.Table) -> pa.Table:
        table = put(put(table, "id", rank - 1, columns["id"]), "cost", rank - 1, columns["tokens"])
        return put(put(table, "file", rank - 1, f"part-{row // 100}.parquet"), "row", rank - 1, row % 100)

    rewrite(run, change, ledger=True)
    return check(run)


@pytest.mark.parametrize("run", ["bounds"], indirect=True)
@pytest.mark.parametrize("limit", ["budget", "quotas", "distance", "list", "near"])
def test_a_pick_that_breaks_a_limit(files: Files, run: Path, limit: str) -> None:
    table, picks = files.table, [entry.position for entry in Ledger(run).read()]
    lang, costs = table.column("lang").to_pylist(), table.column("tokens").to_pylist()
    rows, known, targets = (_rows(each) for each in (table, pq.read_table(files.known), pq.read_table(files.target)))
    near = (cosines(rows, unit_rows(rows[picks])) > 0.95).numpy()
    known = torch.cat([known, rows[90:95]])
    by_others = (cosines(rows, unit_rows(known)) > 0.95).any(1) | (cosines(rows, unit_rows(targets)) > 0.999).any(1)
    free = [row for row in range(40, 300) if row not in picks and not 90 <= row < 95 and not by_others[row]]
    apart = [row for row in free if not near[row].any()]
    full = next(value for value in ("en", "fr") if sum(lang[pick] == value for pick in picks[:-1]) == _N // 2)
    source = table.column("source").to_pylist()
    left = _BOUNDS["budget"] - sum(costs[pick] for pick in picks[:-1])
    roomy = [row for row in apart if lang[row] != full and source[row] == "books"]
    beside = next(r for r in free if near[r, :-1].any())
    row, words = {
        "budget": (max(roomy, key=lambda r: costs[r]), f"of which selection.budget.*leave {left:g}$"),
        "quotas": (next(r for r in apart if lang[r] == full), f"selection.quotas.*no room for lang={full}"),
        "distance": (beside, f"min_distance to the pick of rank {near[beside].argmax() + 1}$"),
        "list": (7, "excluded by a list"),
        "near": (next(r for r in range(95, 300) if by_others[r]), "too near to a target or a known row"),
    }[limit]
    found = _with_row(files, run, _N, row)
    breach = found.breaches[0]
    assert (breach.rank, breach.picked) == (_N, table.column("id")[row].as_py()), found.summary().text
    assert re.search(words, breach.reason), breach.reason
    assert f"rank {_N}: {breach.picked} might not be picked: {breach.reason}" in found.summary().text


def test_a_pick_of_a_baseline_repeated(files: Files) -> None:
    files.run(files.settings("nearest", acquisition={"name": "nearest"}))
    rewrite(files.folder / "nearest", lambda table: table.take([0, 1, 2, 3, 1, *range(5, 12)]).set_column(
        0, "rank", table.column("rank")
    ))  # fmt: skip
    assert check(files.folder / "nearest").breaches[0][::2] == (5, "it is the pick of rank 2")


_WRONG_ENDS = [
    ("bounds", {"stop": "no_rows"}, "no further row might be picked, but row"),
    ("bounds", {"stop": "share"}, "selection.share is not set"),
    ("bounds", {"limits": []}, "says of the limits"),
    ("worth", {"next_gain": 0.001}, "ended at a next gain of 0.001"),
    ("worth", {"next_gain": 0.03}, "ended for min_gain=0.02, but records"),
    ("worth", {"stop": "n"}, "one of them is wrong"),
    ("vtl", {"next_gain": 0.0001}, "ended at a next gain of 0.0001"),
    ("share", {"stop": "no_rows"}, "but row"),
    ("share", {"stop": "n"}, "selection.share=0.5 is reached after"),
    ("rows", {"stop": "n"}, "does not hold ranks 1 to 20"),
]


@pytest.mark.parametrize(("run", "change", "words"), _WRONG_ENDS, indirect=["run"])
def test_an_end_without_its_reason(run: Path, change: dict[str, Any], words: str) -> None:
    path = run / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    found = check(run, max_steps=1)
    assert any(words in text for text in found.contradictions), found.summary().text
