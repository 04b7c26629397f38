"""What the driver says of its candidates from float32 holds, and float32 is used where it says anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core import comparison
from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch, ScoreSpec
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.rules import Rules
from ray_itl.core.screening.arithmetic import Columns
from tests.core.adversarial import DIM, NUM_ROWS, TASKS, rows_of_a_kind, state_of
from tests.core.helpers import (
    RULES,
    SMALL,
    Problem,
    Rule,
    clustered,
    few_examples,
    make_shards,
    normal,
    picked,
    power_law,
    shuffled_ids,
    with_copies,
)
from tests.user_rules import Scaled

PICKS = 6


def batch_of(rows: Tensor) -> RowBatch:
    costs, groups = 1.0 + torch.arange(len(rows), dtype=torch.float64) % 3, torch.zeros(len(rows), dtype=torch.int64)
    return RowBatch(np.arange(len(rows)), np.arange(len(rows)), rows, (), costs, groups)


@given(
    name=st.sampled_from(sorted(TASKS)),
    rows=rows_of_a_kind,
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    noise=st.sampled_from([1.0, 0.03, 1e-3]),
    per_cost=st.booleans(),
    before=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_no_candidate_is_excluded_that_gains_as_much(
    name: str, rows: Tensor, dtype: torch.dtype, noise: float, per_cost: bool, before: int, seed: int
) -> None:
    """Of candidates scored in float32 after some picks, for values just below, at and above exact gains."""
    rule, num_tasks = TASKS[name]
    rows = rows.to(dtype)
    if not bool(torch.isfinite(rows).all()):
        return  # beyond float16
    exact, norms, batch = rows.to(torch.float64), squared_norms(rows), batch_of(rows)
    scale = float(norms.mean().sqrt()) or 1.0
    rule = replace(rule, noise_variance=noise * scale**2)
    state = state_of(rule, num_tasks, exact[:2], scale, seed)
    spec = ScoreSpec.of(rule, state, "int8", state.gain_scale, Rules(per_cost))
    generator = np.random.default_rng(seed)

    def pick() -> Tensor:
        nonlocal state
        column, state = state.step(exact[int(generator.integers(NUM_ROWS))])
        return column

    none = torch.empty(DIM, rule.num_tracks, 0, dtype=torch.float64)
    earlier = [pick() for _ in range(before)]
    held = CandidateSet(spec, spec.magnitudes, focus=1)
    found = held.score(batch, norms, spec, torch.stack(earlier, dim=2) if earlier else none)
    if found is None:
        assert not bool(((norms == 0) | ((norms > 2.0**-60) & (norms < 2.0**60))).all())
        return
    held.add(batch, norms, found)
    scores = held.exactly(held.scores, torch.from_numpy(generator.permutation(NUM_ROWS)[:20]), state)
    prices = held.costs if per_cost else torch.ones(NUM_ROWS, dtype=torch.float64)
    for _ in range(3):
        assert_within(scores, state.scores(exact), norms, spec.magnitudes)
        reach, columns = [rule.gain(state.scores(exact)) / prices], []
        value = float(reach[0].topk(3).values[int(generator.integers(3))])
        assert not bool(((reach[0] >= value) & ~held.near(scores, value)).any())
        for _ in range(PICKS):
            columns.append(pick())
            reach.append(rule.gain(state.scores(exact)) / prices)
        at_step = torch.stack(reach[:-1], dim=1)
        values = at_step.topk(3, dim=0).values[int(generator.integers(3))]
        prepared = held.prepared(torch.stack(columns, dim=2))
        drops = list(held.drops(prepared))
        doubtful = held.doubts(scores, values, prepared, drops)
        assert not bool(((at_step >= values).any(dim=1) & ~doubtful).any())
        scores = held.after(scores, prepared, drops, PICKS)


def assert_within(scores: BoundedScores, true: Scores, norms: Tensor, magnitudes: tuple[float, ...]) -> None:
    for score, error, exact, magnitude in zip(scores.values, scores.errors, true, magnitudes, strict=True):
        off, rounding = (score - exact).abs(), 1e-12 * magnitude * norms
        assert bool((off <= error * norms + rounding).all())
        assert bool((off[scores.exact] <= rounding[scores.exact]).all())


def spied(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """In which types products of candidates are from now on."""
    seen: list[torch.dtype] = []
    product = CandidateSet.drops

    def noted(held: CandidateSet, columns: Columns):
        seen.append(columns.right.dtype)
        return product(held, columns)

    monkeypatch.setattr(CandidateSet, "drops", noted)
    return seen


def test_candidates_of_float32_are_screened_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    pool, targets = power_law(3000, 24, 3), Targets.uniform(normal(8, 24, 4))
    for dtype in (torch.float32, torch.float64):
        problem = Problem(RULES[0], pool.to(dtype), shuffled_ids(3000, 1), targets, 1.0)
        assert picked(problem.select(40, 2, SMALL)) == problem.dense_ids(40)
        assert {*seen} == {dtype}
        seen.clear()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@few_examples
@given(rows=rows_of_a_kind, seed=st.integers(0, 1000), many=st.sampled_from([0.0, 1 / 8, 2.0]))
def test_picks_are_the_dense_ones_however_many_doubts_there_are(
    rule: Rule, rows: Tensor, seed: int, many: float
) -> None:
    """Scored anew at each doubt, as it is, or never."""
    scale = float(squared_norms(rows).mean())
    targets = Targets.uniform(scale**0.5 * normal(4, DIM, seed))
    problem = Problem(rule, rows.to(torch.float32), shuffled_ids(len(rows), seed), targets, 0.1 * scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_MANY_DOUBTS", many)
        assert picked(problem.select(30, 2, SMALL)) == problem.dense_ids(30)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("noise", [1.0, 0.01])
def test_long_selections(rule: Rule, noise: float) -> None:
    """More picks than new candidates are told by columns."""
    pool = with_copies(clustered(600, 10, seed=1, num_clusters=40), 0.1, seed=2).to(torch.float32)
    problem = Problem(rule, pool, shuffled_ids(600, 3), Targets.uniform(clustered(15, 10, 4)), noise)
    assert picked(problem.select(150, 2, SMALL)) == problem.dense_ids(150)


def test_where_all_tie_candidates_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a few rows, some turned a little: float32 tells nothing, and is not asked again and again."""
    seen = spied(monkeypatch)
    rows = clustered(4, 16, seed=1, num_clusters=4).repeat(500, 1)
    rows = (rows * (1 + 1e-7 * normal(len(rows), 1, 2))).to(torch.float32)
    problem = Problem(RULES[0], rows, shuffled_ids(len(rows), 3), Targets.uniform(normal(5, 16, 2)), 0.1)
    assert picked(problem.select(60, 2, SMALL)) == problem.dense_ids(60)
    assert torch.float64 in seen
    assert seen[seen.index(torch.float64) :].count(torch.float32) == 0


def test_rules_without_forms_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    rows, rule = power_law(800, 12, 3).to(torch.float32), Scaled(0.1)
    pool, targets = LocalPool(make_shards(rows, np.arange(800), 2)), Targets.uniform(normal(4, 12, 5))
    result = GreedySelector(pool, rule, rule.start(Posterior.prior(12), targets), schedule=SMALL).select(20)
    same = InformationGain(0.1)
    again = GreedySelector(pool, same, same.start(Posterior.prior(12), targets), schedule=SMALL)
    assert {*seen} == {torch.float64}
    assert picked(result) == picked(again.select(20))
    assert torch.float32 in seen
