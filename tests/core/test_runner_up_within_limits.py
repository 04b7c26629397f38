"""Runners-up of a selection within limits are the best rows that could have been picked too, by the definitions."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.explain import RunnerUp, runners_up
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior
from ray_itl.core.shard import PoolShard
from tests.core.helpers import ITL, SMALL, TINY, UNCERTAINTY, VTL, Rule
from tests.core.limit_cases import (
    DIM,
    IDS,
    LANGUAGE,
    NOISE,
    PICKS,
    TARGETS,
    Case,
    Combination,
    all_combinations,
    combinations,
    dense_limits,
    dense_runners_up,
    expected_picks,
    limits_of,
    local_pool,
    others,
    pool_of,
    selector_of,
    started,
)
from tests.oracle import dense_greedy


def _found(rule: Rule, case: Case, dtype: torch.dtype, num_shards: int) -> list[RunnerUp | None]:
    result = selector_of(rule, case, dtype, num_shards, SMALL).select(PICKS)
    limits, _ = limits_of(case, pool_of(dtype))
    acquisition, state = started(rule, case)
    return runners_up(
        local_pool(case, dtype, num_shards), acquisition, state, result.picks, result.features,
        "float32", rules=limits.rules, limit_state=limits.limit_state(PICKS), floor=limits.floor,
    )  # fmt: skip


def _assert_same(found: list[RunnerUp | None], expected: list[tuple[int, float] | None], case: Case) -> None:
    assert len(found) == len(expected)
    for step, (runner, second) in enumerate(zip(found, expected, strict=True)):
        assert (runner is None) == (second is None), (case, step)
        if runner is not None and second is not None:
            assert (runner.position, runner.row_id) == (second[0], IDS[second[0]]), (case, step)
            assert runner.margin == pytest.approx(second[1], rel=1e-6, abs=1e-9)


def _check(combinations: Iterable[Combination]) -> None:
    for rule, case, num_shards, _, dtype in combinations:
        samples = [TARGETS, *(sample for sample, _ in others(case))]
        scale = sum(float(sample.weighted.square().sum()) for sample in samples) if rule is VTL else 1.0
        dense = dense_limits(case, pool_of(dtype).to(torch.float64))
        expected = dense_runners_up(expected_picks(rule, case, dtype), dense, IDS, scale)
        _assert_same(_found(rule, case, dtype, num_shards), expected, case)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks and several blocks of steps."""
    monkeypatch.setattr("ray_itl.core.feature_store.chunk_rows_for", lambda _: 16)
    monkeypatch.setattr("ray_itl.core.rivals._BLOCK", 7)
    monkeypatch.setattr("ray_itl.core.rivals._FIRST_ROWS", 5)
    monkeypatch.setattr("ray_itl.core.rivals._PICKS_AT_ONCE", 3)


def test_runners_up_are_those_of_the_definition() -> None:
    """For every choice of two: a limit and another, a rule, a number of shards, a storage type."""
    _check(combinations(2))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("rule", [ITL, VTL, UNCERTAINTY], ids=lambda rule: rule.name)
def test_every_combination_has_the_runners_up_of_the_definition(rule: Rule, first: int) -> None:
    _check(all_combinations(rule, first, 8))


def test_a_minimum_given_up_in_the_run_is_given_up_here() -> None:
    """Once the copies of the first German row are barred, no other can fill the minimum: all languages may come."""
    case, rule = Case(least=True, distance=True), InformationGain(NOISE)
    pool = pool_of(torch.float64)
    limits, costs_and_groups = limits_of(case, pool)
    german = torch.tensor([language == "de" for language in LANGUAGE])
    copies = torch.where(german[:, None], pool[int(german.nonzero()[0])], pool)
    dense = dense_limits(case, copies)
    state = rule.start(Posterior.prior(DIM), TARGETS)
    shards = LocalPool([PoolShard(MemoryFeatures(copies), IDS, 0, costs_and_groups=costs_and_groups)])
    result = GreedySelector(shards, rule, state, schedule=TINY, limits=limits).select(PICKS)
    assert sum(LANGUAGE[pick.position] == "de" for pick in result.picks) == 1  # 4 are asked for
    found = runners_up(
        shards, rule, state, result.picks, result.features, rules=limits.rules, limit_state=limits.limit_state(PICKS)
    )
    picks = dense_greedy("itl", copies, IDS, TARGETS, PICKS, NOISE, limits=dense)
    _assert_same(found, dense_runners_up(picks, dense, IDS, 1.0), case)
