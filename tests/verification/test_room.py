"""What a check says that budget and quotas leave: the definitions' word, whatever the engine thinks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.core.limits import Limits, LimitState, Reserve
from ray_itl.core.quotas import Quotas
from ray_itl.verification.room import Room
from tests.core.limit_cases import engine_quotas
from tests.helpers import Files
from tests.oracle import DenseLimits, DenseQuota
from tests.verification.test_verification import check

_VALUES = ("a", "b", "c")
_bounds = st.dictionaries(st.sampled_from(_VALUES), st.integers(0, 4), max_size=3)


@settings(max_examples=200)
@given(st.data())
def test_room_is_that_of_the_definitions(data: st.DataObject) -> None:
    num_rows = data.draw(st.integers(2, 10))
    texts = st.lists(st.sampled_from(_VALUES), min_size=num_rows, max_size=num_rows)
    has_budget = data.draw(st.booleans())
    columns = []
    for place in range(data.draw(st.integers(1, 2))):
        values, most = data.draw(texts), data.draw(_bounds)
        asked = data.draw(_bounds) if place == 0 or not has_budget else {}
        least = {value: min(count, values.count(value), most.get(value, count)) for value, count in asked.items()}
        columns.append(DenseQuota(values, least, most))  # as others are refused before a run
    costs = torch.tensor(
        data.draw(st.lists(st.integers(1, 5), min_size=num_rows, max_size=num_rows)), dtype=torch.float64
    )
    n, budget = data.draw(st.integers(1, num_rows)), float(data.draw(st.integers(4, 30))) if has_budget else math.inf
    dense = DenseLimits(n, costs, budget, quotas=columns).begin()
    quotas, groups = engine_quotas(columns, n)
    reserve = None
    if has_budget:
        values, least = np.array(columns[0].values), quotas.columns[0].least
        cheapest = [np.sort(costs.numpy()[values == name]) for name in quotas.columns[0].values]
        reserve = Reserve(0, tuple(each[:count] for each, count in zip(cheapest, least, strict=True)))
    room = Room.of(Limits(None, budget, quotas, reserve), n)
    picks: list[int] = []
    while len(picks) < n:  # whatever may be picked, as no engine would need to
        free = [row for row in range(num_rows) if row not in picks]
        expected = {row: dense._room(dense._group(row), picks, free, dense._least) for row in free}
        found = room.largest_costs(costs[picks].tolist(), groups.numpy()[picks])
        assert {row: found[int(groups[row])] for row in free} == pytest.approx(expected)
        open_rows = [row for row in free if costs[row] <= expected[row]]
        if not open_rows:
            break
        picks.append(data.draw(st.sampled_from(open_rows)))


def _files(folder: Path) -> Files:
    files, rng = Files(folder), np.random.default_rng(3)
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        size = table.num_rows
        table = table.append_column("tokens", pa.array(rng.integers(1, 9, size)))
        pq.write_table(
            table.append_column("lang", pa.array(rng.choice(["de", "en", "fr"], size, p=[0.1, 0.6, 0.3]))), path
        )
    return files


def _never(_: Any) -> tuple[np.ndarray, ...]:
    return (np.zeros(3, dtype=np.int64),)


def _unchanged(quotas: Quotas, _: int) -> Quotas:
    return quotas


def _nothing(_: Any) -> float:
    return 0.0


def _all_free(_: Any, deficit: np.ndarray) -> np.ndarray:
    return np.zeros(len(deficit))


_FAULTS: dict[str, tuple[type, str, Any, str]] = {
    "maximums are not looked at": (
        Quotas,
        "is_below_max",
        property(lambda self: np.ones(len(self.rows), bool)),
        "lang=en",
    ),
    "minimums hold nothing back": (Quotas, "missing", property(_never), "leave no room"),
    "picks are not counted": (Quotas, "take", _unchanged, "leave no room"),
    "nothing is spent": (LimitState, "spent", property(_nothing), "of which selection.budget"),
    "no money is held back": (Reserve, "after_pick", _all_free, "of which selection.budget"),
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_fault_of_the_engine_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    files = _files(tmp_path)
    quotas = {"lang": {"de": {"min": 6}, "en": {"max": 5}}}
    budget = {"cost_column": "tokens", "budget": 45.0} if fault in ("nothing is spent", "no money is held back") else {}
    options = files.settings(n=16, selection={"quotas": quotas, **budget})
    owner, name, faulty, words = _FAULTS[fault]
    monkeypatch.setattr(owner, name, faulty)
    files.run(options)
    found = check(tmp_path / "run")
    assert found.breaches, found.summary().text
    assert words in found.breaches[0].reason
