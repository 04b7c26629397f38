"""Steps among the foremost candidates are those among all of them, whoever is among the foremost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState, Scores
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.criteria import Criteria
from ray_itl.core.decision import TotalOrder
from ray_itl.core.limits import LimitState
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch, ScoreSpec
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.rules import Rules
from ray_itl.core.screening.arithmetic import Columns
from ray_itl.core.speculation import SpeculatedPicks, speculate
from tests.core.helpers import RULES, SMALL, Problem, Rule, clustered, few_examples, normal, power_law, with_copies

DIM, NOISE, STEPS = 6, 0.1, 40
DTYPES = [torch.float64, torch.float32]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
KINDS: dict[str, Callable[[int], Tensor]] = {
    "power": lambda seed: power_law(300, DIM, seed),
    "clustered": lambda seed: clustered(300, DIM, seed, spread=0.05),
    "copies": lambda seed: with_copies(power_law(300, DIM, seed), 0.5, seed),
    "equal": lambda seed: normal(1, DIM, seed).repeat(300, 1),
}


class Held(NamedTuple):
    criteria: Criteria
    state: AcquisitionState
    candidates: CandidateSet

    def ahead(self, focus: int, steps: int = STEPS, limit_state: LimitState | None = None) -> SpeculatedPicks:
        limit_state = limit_state or LimitState(steps)
        self.candidates.focus = focus
        return speculate(self.criteria, self.state, limit_state, self.candidates, steps)


def held(rows: Tensor, rule: Rule = RULES[0], rules: Rules | None = None, replacement: bool = False) -> Held:
    acquisition = rule.acquisition(NOISE)
    state = acquisition.start(Posterior.prior(DIM), Targets.uniform(normal(4, DIM, 3)))
    spec = ScoreSpec.of(acquisition, state, "float64", state.gain_scale, rules)
    candidates, ids = CandidateSet(spec, spec.magnitudes, 0), np.random.default_rng(1).permutation(len(rows))
    costs = 1.0 + torch.arange(len(rows), dtype=torch.float64) % 3
    batch = RowBatch(np.arange(len(rows)), ids, rows, (), costs, torch.zeros(len(rows), dtype=torch.int64))
    candidates.add(batch, squared_norms(rows), BoundedScores.exactly(state.scores(rows.double())))
    total_order = TotalOrder(acquisition, spec.magnitudes, state.gain_scale)
    return Held(Criteria(total_order, rules or Rules(), replacement), state, candidates)


def assert_within(found: BoundedScores, true: Scores, norms: Tensor) -> None:
    """Exact scores are the true ones, and the others are as near as they say."""
    for score, error, exact in zip(found.values, found.errors, true, strict=True):
        torch.testing.assert_close(score[found.exact], exact[found.exact], rtol=1e-9, atol=1e-12)
        assert bool(((score - exact).abs() <= error * norms + 1e-12).all())


def assert_same(some: SpeculatedPicks, every: SpeculatedPicks) -> None:
    """The second is of exact scores throughout."""
    assert some.picks == every.picks
    torch.testing.assert_close(torch.tensor(some.gains), torch.tensor(every.gains), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(some.gate.max_costs, every.gate.max_costs)
    for step in range(len(every.picks) + 1):
        assert_within(some.path.at(step), every.path.at(step).values, every.path.candidates.norms)


@every_rule
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replacement", [False, True], ids=["once", "again"])
@every_dtype
def test_the_picks_are_those_among_all(rule: Rule, kind: str, replacement: bool, dtype: torch.dtype) -> None:
    pool = KINDS[kind](1).to(dtype)
    every = held(pool, rule, replacement=replacement).ahead(focus=300)
    assert len(every.picks) == STEPS
    for focus in (1, 10, 100):
        assert_same(held(pool, rule, replacement=replacement).ahead(focus), every)


@few_examples
@given(
    kind=st.sampled_from(sorted(KINDS)),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 99),
    focus=st.integers(1, 120),
    per_cost=st.booleans(),
    apart=st.booleans(),
    budget=st.sampled_from([float("inf"), 20.0]),
    dtype=st.sampled_from(DTYPES),
)
def test_limits_hold_at_every_step(
    kind: str, rule: Rule, seed: int, focus: int, per_cost: bool, apart: bool, budget: float, dtype: torch.dtype
) -> None:
    pool, rules = KINDS[kind](seed).to(dtype), Rules(per_cost, 0.9 if apart else None)
    limit_state = LimitState(STEPS, budget)
    every = held(pool, rule, rules).ahead(300, STEPS, limit_state)
    assert_same(held(pool, rule, rules).ahead(focus, STEPS, limit_state), every)


@every_dtype
def test_scores_along_the_path_are_those_of_the_states(dtype: torch.dtype) -> None:
    rows = held(power_law(300, DIM, 1).to(dtype))
    features, norms = rows.candidates.features.double(), rows.candidates.norms
    plan, state = rows.ahead(focus=10), rows.state
    for step, row in enumerate(plan.features):
        assert_within(plan.path.at(step), state.scores(features), norms)
        state = state.condition(row)
    assert_within(plan.path.at(STEPS), plan.state.scores(features), norms)


@every_dtype
def test_the_others_are_compared_by_one_product_for_many_steps(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    rows, widths = held(power_law(300, DIM, 1).to(dtype)), []
    product = CandidateSet.drops

    def counted(candidates: CandidateSet, columns: Columns):
        if columns.num_steps:
            widths.append(columns.num_steps)
        return product(candidates, columns)

    monkeypatch.setattr(CandidateSet, "drops", counted)
    rows.ahead(focus=100)
    assert len(widths) <= STEPS // 4
    assert sum(widths) <= 3 * STEPS


def test_the_pick_that_is_not_worthwhile_is_the_last() -> None:
    rows = held(power_law(300, DIM, 1))
    gains = rows.ahead(focus=300).gains
    criteria = replace(rows.criteria, min_gain=(gains[6] + gains[7]) / 4)  # costs are 1 to 3
    assert_same(rows._replace(criteria=criteria).ahead(5), rows._replace(criteria=criteria).ahead(300))


@pytest.mark.parametrize("n", [13, 30])
def test_more_picks_than_columns_are_kept_of(n: int) -> None:
    """With replacement, beyond 2 D picks: a pool brought up to date then starts from what they taught."""
    problem = Problem(RULES[0], power_law(90, DIM, 1), np.arange(90), Targets.uniform(normal(4, DIM, 3)), NOISE)
    whole = problem.select(n, 2, SMALL)
    resumed = problem.select(n, 3, SMALL, list(zip(whole.picks[: n - 1], whole.features[: n - 1], strict=True)))
    assert [pick.row_id for pick in resumed.picks] == [pick.row_id for pick in whole.picks] == problem.dense_ids(n)


def test_the_rules_under_test_are_both_linear_and_not() -> None:
    ones = torch.ones(1, dtype=torch.float64)
    assert InformationGain(NOISE).linear(ones) is not None
    assert InformationGain(NOISE, task_weights=(1.0, 0.5)).linear(ones) is None
