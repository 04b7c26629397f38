"""Rows that cannot be used: named all at once, or passed over as if the pool had not had them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ray_itl.api import select
from ray_itl.core.posterior import Targets
from ray_itl.curation.planning import planned
from ray_itl.curation.summary import summarise, warnings_about
from ray_itl.errors import ConfigError, InputError
from ray_itl.selection import Selection
from ray_itl.sources.bad_rows import BadRowsError
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.spoiled import KINDS, REASONS, Spoiled, spoiled_pool
from tests.helpers import clustered
from tests.oracle import dense_greedy

NEEDS_COST = {"null cost", "negative cost"}
ALL: dict[int, str] = dict(zip((0, 7, 49, 50, 51, 99, 100, 120, 149), KINDS, strict=True))
SKIP = {"on_bad_row": "skip"}
LIMITED = {"cost_column": "cost", "budget": 25.0, "quotas": {"kind": {"a": {"max": 7}, "b": {"min": 4}}}}


def listed(table: pa.Table | None) -> list[tuple[Any, ...]]:
    assert table is not None
    return [tuple(row.values()) for row in table.to_pylist()]


def assert_same(found: Selection, expected: Selection) -> None:
    assert found.ids == expected.ids
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9)
    np.testing.assert_allclose(found.remaining_uncertainty, expected.remaining_uncertainty, rtol=1e-9)
    for key in ("num_rows", "num_picks", "limits", "stop"):
        assert found.metrics[key] == expected.metrics[key], key


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Spoiled:
    return spoiled_pool(tmp_path_factory.mktemp("spoiled"), ALL)


@pytest.mark.parametrize("text_ids", [False, True], ids=["int", "text"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEEDS_COST])
def test_one_bad_row_is_named_with_what_is_wrong(tmp_path: Path, kind: str, text_ids: bool) -> None:
    one = spoiled_pool(tmp_path, {60: kind}, text_ids=text_ids)
    with pytest.raises(BadRowsError) as caught:
        one.files.run(one.files.settings())
    message = str(caught.value)
    assert message.startswith(f"file 'part-1.parquet', row 10 (counting from 0): {REASONS[kind]}")
    assert message.endswith("or set pool.on_bad_row=skip")
    assert not (tmp_path / "spoiled" / "run").exists()


def test_refusal_names_ten_and_says_how_many(tmp_path: Path) -> None:
    many = spoiled_pool(tmp_path, dict.fromkeys(range(3, 150, 7), "NaN"))
    with pytest.raises(BadRowsError) as caught:
        many.files.run(many.files.settings())
    message = str(caught.value)
    assert message.startswith("21 rows cannot be used: file 'part-0.parquet', row 3")
    assert message.count("holds NaN") == 10
    assert "; and 11 more: drop the row" in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", sorted(NEEDS_COST))
def test_bad_costs_are_named_before_anything_is_loaded(tmp_path: Path, kind: str) -> None:
    bad = spoiled_pool(tmp_path, {5: kind, 77: kind})
    assert len(select(bad.whole, clustered(12, seed=2), 5)) == 5, "nobody looks at costs"
    for call in (bad.files.run, planned):
        with pytest.raises(BadRowsError, match=rf"^2 rows cannot be used: .*row 5 .*{REASONS[kind]}.*row 27 "):
            call(bad.files.settings(selection={"cost_column": "cost", "budget": 9.0}))


@pytest.mark.parametrize("rule", ["itl", "vtl", "uncertainty", "nearest", "cosine", "random"])
def test_every_rule_picks_as_without_the_bad_rows(spoiled: Spoiled, tmp_path: Path, rule: str) -> None:
    run = str(tmp_path / "run")
    chosen: dict[str, Any] = {"acquisition": {"name": rule}}
    found = spoiled.files.run(spoiled.files.settings(pool=SKIP, run=run, **chosen))
    costly = {row for row, kind in spoiled.wrong.items() if kind in NEEDS_COST}
    sound = pa.concat_tables([spoiled.rest, spoiled.whole.take(sorted(costly))])
    assert_same(found, select(sound, str(spoiled.files.target), 12, acquisition=rule, noise_variance=1.0))
    expected = [row for row in spoiled.listed() if not row[3].startswith("cost")]
    assert listed(found.skipped) == expected
    assert listed(pq.read_table(f"{run}/skipped.parquet")) == expected
    assert found.metrics["skipped_rows"] == len(expected)
    if rule != "random":
        assert verify(VerifySettings(run=FinishedRun(run))).right


OPTIONS: dict[str, dict[str, Any]] = {
    "limits": LIMITED,
    "per cost": {**LIMITED, "per_cost": True},
    "share": {"share": 0.5},
    "distance": {"min_distance": 0.05, "near_target": "exclude"},
    "worth": {"min_gain": 0.02},
    "explained": {"explain": True},
    "again": {"replacement": True},
}


@pytest.mark.parametrize("storage", ["memory", "disk"])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_limit_and_storage(
    spoiled: Spoiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, storage: str
) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    cost = {"cost_column": "cost"} if name not in ("limits", "per cost") else {}
    chosen = {**OPTIONS[name], **cost}
    where = {"storage": storage, **SKIP}
    settings = spoiled.files.settings(pool=where, selection=chosen, run=str(tmp_path / "run"))
    expected = spoiled.sound.run(spoiled.sound.settings(run=None, selection=chosen))
    for _ in range(2):  # with an empty cache, and from the cache
        found = spoiled.files.run(settings)
        assert_same(found, expected)
        assert listed(found.skipped) == spoiled.listed()
    assert verify(VerifySettings(run=FinishedRun(str(tmp_path / "run")))).right
    again = spoiled.files.run(spoiled.files.settings(run=None, pool=where, selection=chosen))
    assert_same(again, expected)


def test_a_cache_with_bad_rows_still_refuses(spoiled: Spoiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    spoiled.files.run(spoiled.files.settings(run=None, pool={"storage": "disk", **SKIP}))
    with pytest.raises(BadRowsError, match=r"^7 rows cannot be used"):
        spoiled.files.run(spoiled.files.settings(run=None, pool={"storage": "disk"}))


@pytest.mark.parametrize("form", ["table", "dataset", "filtered"])
def test_other_forms_of_pools(spoiled: Spoiled, form: str) -> None:
    pool: Any = {"table": spoiled.whole, "dataset": pads.dataset(spoiled.files.pool)}.get(form)
    pool = str(spoiled.files.pool) if pool is None else pool
    chosen: dict[str, Any] = {"cost_column": "cost", "on_bad_row": "skip"}
    condition = "kind = 'a'" if form == "filtered" else None
    found = select(pool, str(spoiled.files.target), 10, filter=condition, **chosen)
    assert_same(found, select(spoiled.rest, str(spoiled.files.target), 10, filter=condition, cost_column="cost"))
    assert found.skipped is not None
    kept = [row for row in sorted(ALL) if condition is None or row % 2 == 0]
    assert [entry[3] for entry in listed(found.skipped)] == [REASONS[ALL[row]] for row in kept]


def test_arrays() -> None:
    rows, targets = clustered(80, seed=1), clustered(12, seed=2)
    good = np.setdiff1d(np.arange(80), [3, 40])
    spoilt = rows.copy()
    spoilt[3, 1], spoilt[40] = np.nan, np.inf
    found = select(spoilt, targets, 9, on_bad_row="skip")
    assert found.ids == good[np.array(select(rows[good], targets, 9).ids, dtype=np.int64)].tolist()
    assert listed(found.skipped) == [("", 3, 3, REASONS["NaN"]), ("", 40, 40, REASONS["infinity"])]


@given(
    st.dictionaries(st.integers(0, 39), st.sampled_from(KINDS), max_size=25),
    st.sampled_from(["itl", "vtl"]),
    st.integers(1, 8),
)
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_picks_are_those_of_the_dense_reference(
    tmp_path_factory: pytest.TempPathFactory, wrong: dict[int, str], rule: str, n: int
) -> None:
    pool = spoiled_pool(tmp_path_factory.mktemp("pool"), wrong, num_rows=40)
    targets = clustered(12, seed=2)
    found = select(
        str(pool.files.pool), targets, n, acquisition=rule, noise_variance=0.1, cost_column="cost", on_bad_row="skip"
    )
    rows = torch.tensor(np.array(pool.rest.column("embedding").to_pylist()))
    ids = pool.rest.column("id").to_numpy()
    picks = dense_greedy(rule, rows, ids, Targets.uniform(torch.tensor(targets, dtype=torch.float64)), n, 0.1)
    assert found.ids == ids[[pick.index for pick in picks]].tolist()
    np.testing.assert_allclose(found.gains, [pick.gain for pick in picks], rtol=1e-6, atol=1e-9)


def test_rows_that_are_excluded_may_be_what_they_like(spoiled: Spoiled) -> None:
    named = [row[2] for row in spoiled.listed() if row[2] is not None and not row[3].startswith("cost")]
    with pytest.raises(BadRowsError, match=r"^file 'part-2.parquet', row 0 .*is null"):
        select(str(spoiled.files.pool), str(spoiled.files.target), 5, exclude=named)
    found = select(str(spoiled.files.pool), str(spoiled.files.target), 5, exclude=named, on_bad_row="skip")
    assert listed(found.skipped) == [row for row in spoiled.listed() if row[2] is None]


def test_an_id_that_a_bad_row_shares_counts_once(tmp_path: Path) -> None:
    pool = spoiled_pool(tmp_path, {10: "NaN"})
    whole = pool.whole.set_column(0, "id", pa.array([99 if row == 10 else row for row in range(150)]))
    found = select(whole, str(pool.files.target), 5, on_bad_row="skip")
    sound = whole.filter(pa.array(np.arange(150) != 10))
    assert found.ids == select(sound, str(pool.files.target), 5).ids
    twice = whole.set_column(0, "id", pa.array([99 if row == 11 else row for row in range(150)]))
    with pytest.raises(InputError, match=r"row id 99 occurs more than once .*row 11 and .*row 99"):
        select(twice, str(pool.files.target), 5, on_bad_row="skip")


def test_a_feature_too_large_for_the_dtype_is_a_bad_row() -> None:
    rows, targets = clustered(50, seed=1), clustered(12, seed=2)
    rows[[7, 9]] *= 1e6
    with pytest.raises(BadRowsError, match=r"^2 rows .*row 7 .*too large for float16; .*set pool.dtype=float32"):
        select(rows, targets, 5, dtype="float16")
    found = select(rows, targets, 5, dtype="float16", on_bad_row="skip")
    assert found.ids == select(rows, targets, 5, dtype="float16", exclude=[7, 9]).ids
    assert [row[1] for row in listed(found.skipped)] == [7, 9]


def test_bad_targets_and_known_rows_are_refused_always() -> None:
    rows, targets = clustered(50, seed=1), clustered(12, seed=2)
    targets[[2, 5]] = np.nan
    for name, words in (("target", "targets"), ("known", "known rows"), ("avoid", "avoid rows")):
        given_rows: dict[str, Any] = {"target": clustered(12, seed=2), name: targets}
        with pytest.raises(InputError, match=f"^{words}: 2 rows cannot be used: row 2 .*row 5 "):
            select(rows, n=3, on_bad_row="skip", **given_rows)


def test_too_few_rows_left(tmp_path: Path) -> None:
    pool = spoiled_pool(tmp_path, dict.fromkeys(range(140), "NaN"))
    with pytest.raises(ConfigError, match=r"^selection.n=11, but the pool has 10 rows that can be used \(140 cannot\)"):
        select(str(pool.files.pool), str(pool.files.target), 11, on_bad_row="skip")
    assert len(select(str(pool.files.pool), str(pool.files.target), 10, on_bad_row="skip")) == 10
    none = spoiled_pool(tmp_path / "none", dict.fromkeys(range(150), "NaN"))
    with pytest.raises(BadRowsError, match=r"^150 rows cannot be used"):
        select(str(none.files.pool), str(none.files.target), 1, on_bad_row="skip")


def test_the_end_of_a_run_says_how_many(spoiled: Spoiled, tmp_path: Path) -> None:
    settings = spoiled.files.settings(pool=SKIP, run=str(tmp_path / "run"))
    settings.run.report = True
    for _ in range(2):  # as it ends, and when it is asked for again
        selection = spoiled.files.run(settings)
        ending = summarise(selection)
        assert "(7 that cannot be used passed over)" in ending.headline
        assert ending.facts["skipped"] == 7
        assert ending.paths["skipped"].endswith("skipped.parquet")
        assert any(words.startswith("7 rows of the pool cannot be used") for words in warnings_about(selection))
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "7 rows of the pool cannot be used" in page


def test_a_resumed_run_passes_over_the_same_rows(
    spoiled: Spoiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = spoiled.files.settings(pool=SKIP, selection=LIMITED, run=str(tmp_path / "run"))
    with monkeypatch.context() as patched:
        patched.setattr("ray_itl.curation.attempt.write_selection", _fail)
        with pytest.raises(OSError, match=r"no space"):
            spoiled.files.run(settings)
    found = spoiled.files.run(settings)
    assert_same(found, spoiled.sound.run(spoiled.sound.settings(run=None, selection=LIMITED)))
    assert listed(found.skipped) == spoiled.listed()


def _fail(*_: object) -> None:
    raise OSError("no space")


def test_a_list_of_skipped_rows_that_lies_is_found_out(spoiled: Spoiled, tmp_path: Path) -> None:
    run = tmp_path / "run"
    spoiled.files.run(spoiled.files.settings(pool=SKIP, run=str(run)))
    table = pq.read_table(run / "skipped.parquet")
    more = pa.Table.from_pylist([{"file": "part-0.parquet", "row": 30, "id": 4, "reason": "mine"}], table.schema)
    pq.write_table(pa.concat_tables([table, more]), run / "skipped.parquet")
    found = verify(VerifySettings(run=FinishedRun(str(run))))
    assert not found.right
    assert "skipped.parquet lists file 'part-0.parquet', row 30 (counting from 0), which could have been used" in (
        found.contradictions
    )
