"""Limits inside the greedy: whatever is combined, the picks are those of the dense reference under the same limits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core.acquisitions import InformationGain, VarianceReduction
from ray_itl.core.greedy import GreedyResult, GreedySelector
from ray_itl.core.limits import Ending, Limits
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.quotas import Quota, Quotas
from ray_itl.core.reference import DensePick, dense_greedy
from ray_itl.core.reference_limits import DenseLimits, DenseQuota
from ray_itl.core.row_rules import RowTraits
from ray_itl.core.rules import Guard, Rules, cosines, unit_rows
from ray_itl.core.schedule import Schedule
from ray_itl.core.shard import PoolShard
from ray_itl.core.standing import Reserve
from ray_itl.core.store import MemoryFeatures
from ray_itl.core.uncertainty import remaining_uncertainty
from tests.core.helpers import ITL, SMALL, TINY, UNCERTAINTY, VTL, Rule, clustered, deterministic, shuffled_ids

_N, _DIM, _PICKS, _NOISE = 160, 8, 20, 0.1
_LANGUAGES = ["de", "en", "fr"]
_SOURCES = ["books", "web"]


@dataclass(frozen=True)
class _Case:
    """Which limits are on."""

    budget: bool = False
    per_cost: bool = False
    most: bool = False
    least: bool = False
    two_columns: bool = False
    distance: bool = False
    guard: bool = False
    avoid: bool = False
    stop: bool = False


def _pool(dtype: torch.dtype) -> Tensor:
    rows = clustered(_N, _DIM, 1, num_clusters=12, spread=0.35) * torch.linspace(0.5, 1.5, _N).double()[:, None]
    return rows.to(dtype)


_IDS = shuffled_ids(_N, 2)
_RNG = np.random.default_rng(5)
_COSTS = torch.from_numpy(_RNG.integers(1, 9, _N).astype(np.float64))
_LANGUAGE = [_LANGUAGES[i] for i in _RNG.choice(3, _N, p=[0.1, 0.6, 0.3])]
_SOURCE = [_SOURCES[i] for i in _RNG.choice(2, _N, p=[0.3, 0.7])]
_TARGETS = Targets.uniform(clustered(6, _DIM, 3))
_AVOID = Targets.uniform(clustered(4, _DIM, 7))
_WEIGHT = 0.6
_LIKE = 0.9
_NEAR_TARGET = 0.85


def _columns(case: _Case) -> list[DenseQuota]:
    columns = []
    if case.most or case.least:
        most = {"en": 6} if case.most else {}
        columns.append(DenseQuota(_LANGUAGE, {"de": 4, "fr": 5} if case.least else {}, most))
    if case.two_columns:
        least = {"books": 7} if case.least and not case.budget else {}
        columns.append(DenseQuota(_SOURCE, least, {"web": 11}))
    return columns


def _dense_limits(case: _Case, pool: Tensor) -> DenseLimits:
    units = unit_rows(pool)
    near = (cosines(pool, unit_rows(_TARGETS.rows)) > _NEAR_TARGET).any(dim=1)
    return DenseLimits(
        _PICKS,
        _COSTS if case.budget or case.per_cost else torch.ones(_N, dtype=torch.float64),
        60.0 if case.budget else math.inf,
        case.per_cost,
        _columns(case),
        cosines(pool, units) if case.distance else None,
        _LIKE,
        frozenset(torch.nonzero(near).flatten().tolist()) if case.guard else frozenset(),
    )


def _min_gain(case: _Case) -> float:
    return (0.012 if case.budget or case.per_cost else 0.02) if case.stop else 0.0


def _others(case: _Case) -> list[tuple[Targets, float]]:
    return [(_AVOID, -_WEIGHT)] if case.avoid else []


@cache
def _expected(rule: Rule, case: _Case, dtype: torch.dtype) -> list[DensePick]:
    pool = _pool(dtype).to(torch.float64)
    return dense_greedy(
        rule.dense, pool, _IDS, _TARGETS, _PICKS, _NOISE, rule.target_noise(_NOISE), min_gain=_min_gain(case),
        limits=_dense_limits(case, pool), others=_others(case),
    )  # fmt: skip


def engine_quotas(columns: list[DenseQuota], num_rows: int) -> tuple[Quotas, Tensor]:
    """The same quotas for the engine, and each row's group."""
    names = [sorted(set(column.values)) for column in columns]
    labels = list(zip(*(column.values for column in columns), strict=True))
    cells = sorted(set(labels))
    groups = torch.tensor([cells.index(label) for label in labels])
    quotas = tuple(
        Quota(
            f"column {place}",
            tuple(values),
            np.array([column.least.get(value, 0) for value in values]),
            np.array([column.most.get(value, num_rows) for value in values]),
        )
        for place, (column, values) in enumerate(zip(columns, names, strict=True))
    )
    places = np.array([[values.index(v) for v, values in zip(cell, names, strict=True)] for cell in cells])
    return Quotas(quotas, places, np.bincount(groups.numpy(), minlength=len(cells))), groups


def _reserve(columns: list[DenseQuota], costs: Tensor) -> Reserve | None:
    for place, column in enumerate(columns):
        if column.least:
            names = sorted(set(column.values))
            own = {n: sorted(float(c) for c, v in zip(costs, column.values, strict=True) if v == n) for n in names}
            return Reserve(place, tuple(np.array(own[name][: column.least.get(name, 0)]) for name in names))
    return None


def _limits(case: _Case, pool: Tensor) -> tuple[Limits, RowTraits]:
    dense, columns = _dense_limits(case, pool), _columns(case)
    quotas, groups = engine_quotas(columns, _N) if columns else (None, torch.zeros(_N, dtype=torch.int64))
    guards = (Guard.around(_TARGETS.rows, _NEAR_TARGET),) if case.guard else ()
    rules = Rules(case.per_cost, _LIKE if case.distance else None, guards)
    reserve = _reserve(columns, dense.costs) if case.budget else None
    limits = Limits(rules, dense.budget, quotas, reserve, _min_gain(case))
    return limits, RowTraits(dense.costs, groups)


def _selector(
    rule: Rule, case: _Case, dtype: torch.dtype, num_shards: int, schedule: Schedule | None
) -> GreedySelector:
    pool = _pool(dtype)
    limits, traits = _limits(case, pool)
    ends = [round(_N * ((k + 1) / num_shards) ** 1.5) for k in range(num_shards)]
    parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    shards = [
        PoolShard(
            MemoryFeatures(pool[part].clone()),
            _IDS[part],
            part.start,
            traits=RowTraits(traits.costs[part], traits.groups[part]),
        )
        for part in parts
    ]
    acquisition, tasks = rule.acquisition(_NOISE), [_TARGETS]
    if case.avoid:
        assert isinstance(acquisition, InformationGain | VarianceReduction)
        acquisition, tasks = replace(acquisition, task_weights=(1.0, -_WEIGHT)), [_TARGETS, _AVOID]
    state = acquisition.start(Posterior.prior(_DIM), *tasks)
    return GreedySelector(LocalPool(shards), acquisition, state, schedule=schedule, limits=limits)


def _ids(picks: list[DensePick]) -> list[int]:
    return _IDS[[pick.index for pick in picks]].tolist()


def _picked(result: GreedyResult) -> list[int | str]:
    return [pick.row_id for pick in result.picks]


_FLAGS = list(_Case.__dataclass_fields__)
_CASES = [_Case(**dict(zip(_FLAGS, flags, strict=True))) for flags in product([False, True], repeat=len(_FLAGS))]
_SETUPS = list(product([1, 3], [TINY, SMALL], [torch.float32, torch.float16, torch.float64]))


def _check(rule: Rule, numbers: range) -> None:
    """Shards, schedule and storage go round with the number of the case."""
    for index in numbers:
        case = _CASES[index]
        if rule is UNCERTAINTY and case.avoid:
            continue
        num_shards, schedule, dtype = _SETUPS[index * 7 % len(_SETUPS)]
        result = _selector(rule, case, dtype, num_shards, schedule).select(_PICKS)
        assert _picked(result) == _ids(_expected(rule, case, dtype)), (case, num_shards, schedule, dtype)


@pytest.mark.parametrize("rule", [ITL, VTL, UNCERTAINTY], ids=lambda rule: rule.name)
def test_combinations_equal_the_reference(rule: Rule) -> None:
    """Every 37th, another set for each rule."""
    _check(rule, range([ITL, VTL, UNCERTAINTY].index(rule) * 11 + 3, len(_CASES), 37))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("rule", [ITL, VTL, UNCERTAINTY], ids=lambda rule: rule.name)
def test_every_combination_equals_the_reference(rule: Rule, first: int) -> None:
    _check(rule, range(first, len(_CASES), 8))


@deterministic
@given(data=st.data())
def test_allowed_groups_are_those_from_which_minimums_can_still_be_met(data: st.DataObject) -> None:
    """Two or three columns at once: the integer program against trying everything."""
    num_columns = data.draw(st.integers(1, 3))
    labels = data.draw(st.lists(st.tuples(*[st.sampled_from("ab")] * num_columns), min_size=1, max_size=7))
    columns = []
    for place in range(num_columns):
        least = data.draw(st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)))
        most = data.draw(st.dictionaries(st.sampled_from("ab"), st.integers(0, 4)))
        values = [label[place] for label in labels]
        columns.append(DenseQuota(values, {v: k for v, k in least.items() if v in values}, most))
    quotas, groups = engine_quotas(columns, len(labels))
    picks = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=2, unique=True))
    for row in picks:
        quotas = quotas.take(int(groups[row]))
    slots = data.draw(st.integers(1, 4))
    dense = DenseLimits(len(picks) + slots, torch.ones(len(labels), dtype=torch.float64), quotas=columns)
    rows = [i for i in range(len(labels)) if i not in picks]
    assume(quotas.largest(slots) >= 0)  # which is checked before a run
    allowed = quotas.allowed(slots)
    for row in rows:
        room = dense._room(labels[row], picks, rows, [dict(column.least) for column in columns])
        assert bool(allowed[groups[row]]) == (room > -math.inf)


def test_a_minimum_that_has_no_row_left_is_given_up_and_reported() -> None:
    case = _Case(least=True, distance=True)
    pool = _pool(torch.float64)
    limits, traits = _limits(case, pool)
    german = torch.tensor([language == "de" for language in _LANGUAGE])
    copies = torch.where(german[:, None], pool[int(german.nonzero()[0])], pool)
    state = InformationGain(_NOISE).start(Posterior.prior(_DIM), _TARGETS)
    shard = PoolShard(MemoryFeatures(copies), _IDS, 0, traits=traits)
    result = GreedySelector(LocalPool([shard]), InformationGain(_NOISE), state, schedule=TINY, limits=limits).select(
        _PICKS
    )
    assert Counter(_LANGUAGE[pick.position] for pick in result.picks)["de"] == 1
    assert [(s.value, s.asked, s.picked) for s in result.shortfalls] == [("de", 4, 1)]
    assert len(result.picks) == _PICKS


@pytest.mark.parametrize("budget", [1.0, 7.0, 33.0, 100.0])
def test_a_budget_is_never_exceeded_and_ends_only_where_nothing_fits(budget: float) -> None:
    pool = _pool(torch.float32)
    limits, traits = _limits(_Case(budget=True), pool)
    state = InformationGain(_NOISE).start(Posterior.prior(_DIM), _TARGETS)
    shard = PoolShard(MemoryFeatures(pool), _IDS, 0, traits=traits)
    selector = GreedySelector(
        LocalPool([shard]), InformationGain(_NOISE), state, schedule=SMALL, limits=replace(limits, budget=budget)
    )
    result = selector.select(_N)
    spent = sum(pick.cost for pick in result.picks)
    left = np.delete(_COSTS.numpy(), [pick.position for pick in result.picks])
    assert result.stop == "no_rows"
    assert spent <= budget < spent + left.min()


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_it_ends_with_the_pick_that_reaches_the_share(share: float) -> None:
    pool, root = _pool(torch.float64), _TARGETS.moment_root()
    state = InformationGain(_NOISE).start(Posterior.prior(_DIM), _TARGETS)
    total = float(root.square().sum())
    ending = Ending(root, total, (1 - share) * total)
    shard = PoolShard(MemoryFeatures(pool), _IDS, 0)
    selector = GreedySelector(
        LocalPool([shard]), InformationGain(_NOISE), state, schedule=SMALL, limits=Limits(ending=ending)
    )
    result = selector.select(_N)
    curve = remaining_uncertainty(Posterior.prior(_DIM), _TARGETS, result.features, _NOISE)
    assert result.stop == "share"
    assert curve[-1] <= 1 - share < curve[-2]
