"""Limits inside the greedy: whatever is combined, the picks are those of the dense reference under the same limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.limits import Limits, ShareTarget
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, remaining_uncertainty
from ray_itl.core.result import GreedyResult
from ray_itl.core.shard import PoolShard
from tests.core.helpers import ITL, SMALL, TINY, UNCERTAINTY, VTL, Rule, few_examples
from tests.core.limit_cases import (
    COSTS,
    DIM,
    IDS,
    LANGUAGE,
    NOISE,
    PICKS,
    TARGETS,
    Case,
    Combination,
    N,
    all_combinations,
    combinations,
    engine_quotas,
    expected_picks,
    limits_of,
    pool_of,
    selector_of,
)
from tests.oracle import DenseLimits, DensePick, DenseQuota


def _ids(picks: list[DensePick]) -> list[int]:
    return IDS[[pick.index for pick in picks]].tolist()


def _picked(result: GreedyResult) -> list[int | str]:
    return [pick.row_id for pick in result.picks]


def _check(combinations: Iterable[Combination]) -> None:
    for rule, case, num_shards, schedule, dtype in combinations:
        result = selector_of(rule, case, dtype, num_shards, schedule).select(PICKS)
        assert _picked(result) == _ids(expected_picks(rule, case, dtype)), (case, num_shards, schedule, dtype)


@pytest.mark.parametrize("part", range(4))
def test_every_choice_of_three_equals_the_reference(part: int) -> None:
    """In a few parts, for two processes to share."""
    _check(combinations(3)[part::4])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("rule", [ITL, VTL, UNCERTAINTY], ids=lambda rule: rule.name)
def test_every_combination_equals_the_reference(rule: Rule, first: int) -> None:
    _check(all_combinations(rule, first, 8))


@few_examples
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
    case = Case(least=True, distance=True)
    pool = pool_of(torch.float64)
    limits, costs_and_groups = limits_of(case, pool)
    german = torch.tensor([language == "de" for language in LANGUAGE])
    copies = torch.where(german[:, None], pool[int(german.nonzero()[0])], pool)
    state = InformationGain(NOISE).start(Posterior.prior(DIM), TARGETS)
    shard = PoolShard(MemoryFeatures(copies), IDS, 0, costs_and_groups=costs_and_groups)
    result = GreedySelector(LocalPool([shard]), InformationGain(NOISE), state, schedule=TINY, limits=limits).select(
        PICKS
    )
    assert Counter(LANGUAGE[pick.position] for pick in result.picks)["de"] == 1
    assert [(s.value, s.asked, s.picked) for s in result.shortfalls] == [("de", 4, 1)]
    assert len(result.picks) == PICKS


@pytest.mark.parametrize("budget", [1.0, 7.0, 33.0, 100.0])
def test_a_budget_is_never_exceeded_and_ends_only_where_nothing_fits(budget: float) -> None:
    pool = pool_of(torch.float32)
    limits, costs_and_groups = limits_of(Case(budget=True), pool)
    state = InformationGain(NOISE).start(Posterior.prior(DIM), TARGETS)
    shard = PoolShard(MemoryFeatures(pool), IDS, 0, costs_and_groups=costs_and_groups)
    selector = GreedySelector(
        LocalPool([shard]), InformationGain(NOISE), state, schedule=SMALL, limits=replace(limits, budget=budget)
    )
    result = selector.select(N)
    spent = sum(pick.cost for pick in result.picks)
    left = np.delete(COSTS.numpy(), [pick.position for pick in result.picks])
    assert result.stop == "no_rows"
    assert spent <= budget < spent + left.min()


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_it_ends_with_the_pick_that_reaches_the_share(share: float) -> None:
    pool, root = pool_of(torch.float64), TARGETS.moment_root()
    state = InformationGain(NOISE).start(Posterior.prior(DIM), TARGETS)
    total = float(root.square().sum())
    share_target = ShareTarget(root, total, (1 - share) * total)
    shard = PoolShard(MemoryFeatures(pool), IDS, 0)
    selector = GreedySelector(
        LocalPool([shard]), InformationGain(NOISE), state, schedule=SMALL, limits=Limits(share_target=share_target)
    )
    result = selector.select(N)
    curve = remaining_uncertainty(Posterior.prior(DIM), TARGETS, result.features, NOISE)
    assert result.stop == "share"
    assert curve[-1] <= 1 - share < curve[-2]
