"""Limits from the options to the result: the picks are the dense reference's, wherever rows are."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import select
from ray_itl.core.posterior import Targets
from ray_itl.core.rules import cosines, unit_rows
from ray_itl.curation.result_settings import RunSettings
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.selection import Selection
from ray_itl.sources.settings import AvoidSettings
from tests.core.limit_cases import dense_runners_up
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files
from tests.oracle import DenseLimits, DensePick, DenseQuota, dense_greedy
from tests.report.pages import Page

_N, _COSTS, _BUDGET = 20, 9, 70.0
_QUOTAS = {"lang": {"de": {"min": 3}, "*": {"max": 0.5}}, "source": {"web": {"max": 12}}}
_LIMITS = {"cost_column": "tokens", "budget": _BUDGET, "quotas": _QUOTAS, "min_distance": 0.01}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Files whose rows have costs, languages and sources."""
    return _files(tmp_path)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], list[tuple[int, float] | None]]:
    """The ids of the reference's picks within all limits, and their runners-up."""
    files = _files(tmp_path_factory.mktemp("dense"))
    (picks, limits), ids = _dense_run(files), files.table.column("id").to_numpy()
    return ids[[pick.index for pick in picks]].tolist(), dense_runners_up(picks, limits, ids, 1.0)


def _files(folder: Path) -> Files:
    files = Files(folder)
    rng = np.random.default_rng(0)
    tables = []
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        size = table.num_rows
        table = table.append_column("tokens", pa.array(rng.integers(1, _COSTS, size)))
        table = table.append_column("lang", pa.array(rng.choice(["de", "en", "fr"], size, p=[0.05, 0.75, 0.2])))
        table = table.append_column("source", pa.array(rng.choice(["books", "web"], size)))
        pq.write_table(table, path, row_group_size=40)
        tables.append(table)
    files.table = pa.concat_tables(tables)
    return files


def _dense(files: Files, *args: Any, **changes: Any) -> list[Any]:
    picks, _ = _dense_run(files, *args, **changes)
    return files.table.column("id").to_numpy()[[pick.index for pick in picks]].tolist()


def _dense_run(
    files: Files, excluded: tuple[int, ...] = (), known: torch.Tensor | None = None, **changes: Any
) -> tuple[list[DensePick], DenseLimits]:
    table = files.table
    rows = torch.tensor(np.array(table.column("embedding").to_pylist())).to(torch.float32).to(torch.float64)
    targets = torch.tensor(np.array(pq.read_table(files.target).column("embedding").to_pylist()))
    lang = table.column("lang").to_pylist()
    limits = DenseLimits(
        _N,
        torch.tensor(table.column("tokens").to_numpy(), dtype=torch.float64),
        _BUDGET,
        False,
        [
            DenseQuota(lang, {"de": 3}, dict.fromkeys(["en", "fr"], 10)),
            DenseQuota(table.column("source").to_pylist(), {}, {"web": 12}),
        ],
        cosines(rows, unit_rows(rows)),
        0.99,
    )
    limits = replace(limits, **changes)
    picks = dense_greedy(
        "itl", rows, table.column("id").to_numpy(), Targets.uniform(targets), _N, 1.0,
        limits=limits, excluded=excluded, known=known,
    )  # fmt: skip
    return picks, limits


def _assert_runners_up(selection: Selection, ids: np.ndarray, expected: list[tuple[int, float] | None]) -> None:
    names = [None if second is None else ids[second[0]] for second in expected]
    assert selection.table.column("runner_up").to_pylist() == names
    for margin, second in zip(selection.table.column("runner_up_margin").to_pylist(), expected, strict=True):
        assert margin == (None if second is None else pytest.approx(second[1], rel=1e-5, abs=1e-9))


@pytest.mark.parametrize(
    ("storage", "num_shards"),
    [
        ("memory", 0),
        ("disk", 0),
        pytest.param("memory", 2, marks=pytest.mark.round_trip),
        pytest.param("disk", 2, marks=pytest.mark.cluster),
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_a_run_within_limits_is_the_references(
    files: Files, dense: tuple[list[int], Any], tmp_path: Path, num_shards: int, storage: str
) -> None:
    cluster = {"num_shards": num_shards, "cache_dir": str(tmp_path / "cache")}
    explained, pool = {**_LIMITS, "explain": True}, {"storage": storage, "columns": ["lang"]}
    selection = files.run(files.settings(n=_N, selection=explained, cluster=cluster, pool=pool))
    ids, runners = dense
    assert selection.ids == ids
    _assert_runners_up(selection, files.table.column("id").to_numpy(), runners)
    costs = selection.table.column("cost").to_pylist()
    languages = Counter(selection.table.column("lang").to_pylist())
    used = {entry["name"]: entry for entry in selection.metrics["limits"]}
    assert used["budget"] == {"name": "budget", "used": math.fsum(costs), "max": _BUDGET}
    unmet = {"unmet": True} if languages["de"] < 3 else {}
    assert used["lang=de"] == {"name": "lang=de", "used": languages["de"], "min": 3, **unmet}
    assert used["lang=en"] == {"name": "lang=en", "used": languages["en"], "max": 10}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_blocks", [1, 2])
def test_an_interrupted_run_goes_on_within_its_limits(
    files: Files, dense: tuple[list[int], Any], num_blocks: int
) -> None:
    settings = files.settings(n=_N, selection=_LIMITS)
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(num_blocks))
    listener = Listener()
    assert files.run(settings, listener).ids == dense[0]
    assert any("picks are in the ledger already" in line for line in listener.lines)


def test_gain_per_cost(files: Files) -> None:
    limits = {"cost_column": "tokens", "budget": _BUDGET, "per_cost": True, "explain": True}
    selection = files.run(files.settings(n=_N, selection=limits))
    picks, dense = _dense_run(files, per_cost=True, quotas=[], kernel=None)
    ids = files.table.column("id").to_numpy()
    assert selection.ids == ids[[pick.index for pick in picks]].tolist()
    _assert_runners_up(selection, ids, dense_runners_up(picks, dense, ids, 1.0))


def test_the_report_shows_what_was_used(files: Files) -> None:
    settings = files.settings(n=_N, selection=_LIMITS)
    selection = files.run(replace(settings, run=replace(settings.run, report=True)))
    text = Page((files.folder / "run" / "report.html").read_text()).text
    used = {entry["name"]: entry["used"] for entry in selection.metrics["limits"]}
    assert f"budget {used['budget']:g} tokens at most 70 tokens" in text
    assert f"source=web {used['source=web']} at most 12" in text
    assert f"lang=de {used['lang=de']} at least 3" in text


def test_rows_to_exclude_and_rows_picked_already(files: Files, tmp_path: Path) -> None:
    free = files.run(files.settings("free", n=_N)).ids
    out, known = free[:5], free[5:9]
    pq.write_table(pa.table({"id": [*out, 10**9]}), tmp_path / "out.parquet")
    pq.write_table(pa.table({"id": known}), tmp_path / "in.parquet")
    lists = {"exclude": str(tmp_path / "out.parquet"), "include": str(tmp_path / "in.parquet")}
    selection = files.run(files.settings(n=_N, selection={**_LIMITS, **lists, "min_distance": None}))
    places = [files.table.column("id").to_pylist().index(i) for i in [*out, *known]]
    rows = torch.tensor(np.array(files.table.column("embedding").to_pylist())).to(torch.float32).to(torch.float64)
    expected = _dense(files, tuple(places), rows[sorted(places[5:])], kernel=None)
    assert selection.ids == expected
    pq.write_table(pa.table({"id": [*known, 10**9]}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"include=.*lacks 1 of its 5 ids, the first 1000000000 \(its ids go from"):
        files.run(files.settings("other", n=_N, selection=lists))
    assert not (tmp_path / "other").exists()


def _column(ids: list[int]) -> pa.ChunkedArray:
    return pa.chunked_array([ids[:1], ids[1:]])


def _numpy_numbers(ids: list[int]) -> list[np.int64]:
    return list(np.array(ids))


@pytest.mark.parametrize("kind", [list, np.array, pa.array, set, _column, _numpy_numbers, torch.tensor, pd.Series])
def test_lists_of_ids_in_memory(files: Files, tmp_path: Path, kind: Any) -> None:
    target = pq.read_table(files.target)
    free = select(files.table, target, 8).ids
    out, known = free[:3], free[3:5]
    pq.write_table(pa.table({"id": out}), tmp_path / "out.parquet")
    pq.write_table(pa.table({"id": known}), tmp_path / "in.parquet")
    paths = select(files.table, target, 8, exclude=tmp_path / "out.parquet", include=str(tmp_path / "in.parquet"))
    assert not {*out, *known} & set(paths.ids)
    assert select(files.table, target, 8, exclude=kind(out), include=kind(known)).ids == paths.ids
    embeddings = np.array(files.table.column("embedding").to_pylist(), dtype=np.float32)
    sample = np.array(target.column("embedding").to_pylist(), dtype=np.float32)
    places = [files.table.column("id").to_pylist().index(i) for i in [*out, *known]]
    by_place = select(embeddings, sample, 8, exclude=kind(places[:3]), include=kind(places[3:]))
    assert [files.table.column("id")[place].as_py() for place in by_place.ids] == paths.ids


def test_lists_of_ids_that_cannot_be_used(files: Files, tmp_path: Path) -> None:
    target, run = pq.read_table(files.target), tmp_path / "listed"
    for wrong, shown in ((["7"], "'7'"), ([7.5], "7.5"), ([True], "True"), ([None], "None")):
        with pytest.raises(InputError, match=rf"selection\.exclude holds {shown}, but the pool has int ids"):
            select(files.table, target, 3, exclude=wrong)
    select(files.pool, files.target, 3, exclude=[7], run_dir=run)
    with pytest.raises(RunDirectoryError, match="rows excluded or picked before"):
        select(files.pool, files.target, 3, exclude=[8], run_dir=run)


@pytest.mark.parametrize("rule", ["itl", "vtl"])
def test_what_is_to_be_avoided_is_subtracted(files: Files, rule: Any) -> None:
    settings = files.settings(
        n=_N, acquisition={"name": rule}, avoid={"path": str(files.known), "weight": 0.7}, selection={"explain": True}
    )
    rows = torch.tensor(np.array(files.table.column("embedding").to_pylist())).to(torch.float64)
    samples = (np.array(pq.read_table(path).column("embedding").to_pylist()) for path in (files.target, files.known))
    target, avoid = (Targets.uniform(torch.tensor(sample)) for sample in samples)
    ids = files.table.column("id").to_numpy()
    picks = dense_greedy(rule, rows, ids, target, _N, 1.0, others=[(avoid, -0.7)])
    selection = files.run(settings)
    assert selection.ids == ids[[pick.index for pick in picks]].tolist()
    np.testing.assert_allclose(selection.gains, [pick.gain for pick in picks], rtol=1e-6, atol=1e-9)
    scale = sum(float(sample.weighted.square().sum()) for sample in (target, avoid)) if rule == "vtl" else 1.0
    free = DenseLimits(_N, torch.ones(len(rows), dtype=torch.float64))
    _assert_runners_up(selection, ids, dense_runners_up(picks, free, ids, scale))
    assert selection.ids != files.run(replace(settings, avoid=AvoidSettings(), run=RunSettings(log="quiet"))).ids


def test_a_row_equal_to_a_target_is_flagged_or_excluded(files: Files) -> None:
    row = files.table.slice(7, 1)
    target = pq.read_table(files.target)
    like = pa.table(
        {"embedding": pa.chunked_array([*target.column("embedding").chunks, *row.column("embedding").chunks])}
    )
    pq.write_table(like, files.target)
    flagged = files.run(files.settings("flag", n=300))
    near = dict(zip(flagged.ids, flagged.table.column("near_target").to_pylist(), strict=True))
    assert [row_id for row_id, flag in near.items() if flag] == row.column("id").to_pylist()
    excluded = files.run(files.settings("exclude", n=299, selection={"near_target": "exclude"}))
    assert set(near) - set(excluded.ids) == set(row.column("id").to_pylist())


def test_it_stops_at_a_share_of_what_the_pool_could_teach(files: Files) -> None:
    whole = files.run(files.settings("whole", n=300)).remaining_uncertainty
    stopped = files.run(files.settings("share", n=300, selection={"share": 0.6}))
    reached = 1 - 0.6 * (1 - whole[-1])
    assert stopped.metrics["stop"] == "share"
    assert stopped.remaining_uncertainty[-1] <= reached < stopped.remaining_uncertainty[-2]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"quotas": {"lang": {"de": {"min": 10}, "fr": {"min": 15}}}}, r"add up to 25.*selection\.n=25"),
        ({"quotas": {"lang": {"xx": {"min": 1}}}}, r"no row of the pool has lang=xx: there are de, en, fr"),
        ({"quotas": {"lang": {"de": {"min": 5, "max": 4}}}}, r"minimum of 5 above its maximum of 4"),
        ({"quotas": {"lang": {"*": {"max": 3}}}}, r"allow 9 picks at most.*selection\.n=9"),
        ({"quotas": {"lang": {"de": {"min": 8}}, "source": {"*": {"max": 3}}}}, r"minimums lowered to \d+%"),
        ({"quotas": {"lang": {"de": {"min": 9}}}, "cost_column": "tokens", "budget": 2.0}, r"selection\.budget=\d+"),
        ({"quotas": {"nope": {"de": {"min": 9}}}}, r"nope"),
        ({"cost_column": "text"}, r"selection\.cost_column=text is of type string"),
    ],
)
def test_what_cannot_be_met_is_refused_with_what_would_do(files: Files, limits: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, InputError), match=words):
        files.run(files.settings(n=_N, selection=limits))
    assert not (files.folder / "run").exists()


def test_a_bad_cost_names_its_row(files: Files) -> None:
    path = files.pool / "part-1.parquet"
    table = pq.read_table(path)
    costs = table.column("tokens").to_pylist()
    costs[17] = 0
    place = table.column_names.index("tokens")
    pq.write_table(table.set_column(place, "tokens", pa.array(costs)), path)
    with pytest.raises(InputError, match=r"part-1\.parquet.*row 17.*tokens is 0"):
        files.run(files.settings(n=_N, selection={"cost_column": "tokens"}))


def test_limits_that_a_baseline_cannot_obey_are_refused(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"selection\.budget=5\.0 has no meaning for acquisition\.name=random"):
        files.settings(selection={"cost_column": "tokens", "budget": 5.0}, acquisition={"name": "random"})
    with pytest.raises(ConfigError, match=r"selection\.min_similarity=0\.0 has no meaning for acquisition\.name=near"):
        files.settings(selection={"min_similarity": 0}, acquisition={"name": "nearest"})
