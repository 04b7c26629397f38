"""Rows below a floor under similarity are never picked, by the definition; where it lies is counted exactly."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.core import similarity_floor, similarity_ranks
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.limits import Limits
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.result import GreedyResult
from ray_itl.core.similarity_floor import target_directions
from ray_itl.core.similarity_ranks import SettledFloor, settle_floor
from tests.core.helpers import ITL, SMALL, TINY, VTL, Rule, few_examples, make_shards, normal, picked, shuffled_ids
from tests.oracle import dense_greedy

N, DIM, NOISE = 90, 6, 0.1
STEP = 2.0**-32
NONE = np.empty(0, dtype=np.int64)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def rows_like_targets(seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, Targets]:
    """Rows among which are zeros, copies of targets in other lengths, some of the same cosine, and opposites."""
    rows, targets = normal(N, DIM, seed).to(dtype), normal(5, DIM, seed + 1).to(dtype).double()
    rows[::9] = (targets[torch.arange(len(rows[::9])) % 5] * 3).to(dtype)
    rows[4::11] = rows[3].clone()
    rows[5::13] = -rows[0]
    rows[7::17] = 0
    targets[3] = 0
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    return rows, Targets(targets, weights)


def cosines_one_by_one(rows: torch.Tensor, targets: Targets) -> np.ndarray:
    """The cosine of each row to the nearest target of some weight and length, rounded as everywhere in the engine."""
    present = [y for y, w in zip(targets.rows.numpy(), targets.weights.tolist(), strict=True) if w > 0 and y.any()]
    found = np.zeros(len(rows))
    for i, x in enumerate(rows.double().numpy()):
        products = [float(x @ y) / float(np.linalg.norm(x) * np.linalg.norm(y)) for y in present] if x.any() else [0.0]
        found[i] = round(max(products) / STEP) * STEP
    return found


def settled(
    rows: torch.Tensor, targets: Targets, num_shards: int, asked: float | Fraction, excluded: np.ndarray = NONE
) -> SettledFloor:
    pool = LocalPool(make_shards(rows, np.arange(len(rows)), num_shards))
    return settle_floor(pool, target_directions(targets), asked, excluded)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(DTYPES),
    num_shards=st.integers(1, 4),
    percent=st.sampled_from([0, 1, 50, 90, 95, 99, 100]),
    num_excluded=st.sampled_from([0, 1, 30, N - 1]),
    scale=st.sampled_from([1.0, 1e-18, 1e18]),
)
def test_a_percentage_is_an_order_statistic(
    seed: int, dtype: torch.dtype, num_shards: int, percent: int, num_excluded: int, scale: float
) -> None:
    rows, targets = rows_like_targets(seed, dtype)
    rows[1::2] *= scale if dtype != torch.float16 else 1.0
    excluded = np.random.default_rng(seed).permutation(N)[:num_excluded]
    found = settled(rows, targets, num_shards, Fraction(percent, 100), excluded)
    values = np.sort(np.delete(cosines_one_by_one(rows, targets), excluded))
    limit = values[min(floor(Fraction(percent, 100) * len(values)), len(values) - 1)]
    assert found.floor.limit == limit
    assert (found.num_rows, found.num_left) == (len(values), int((values >= limit).sum()))
    assert (values < limit).sum() <= Fraction(percent, 100) * len(values)


def test_values_that_float32_cannot_tell_apart_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_floor, "_EXACT_ROWS", 7)
    monkeypatch.setattr(similarity_floor, "_CHUNK_CELLS", 8)
    angles = 1.0 + 1e-9 * torch.from_numpy(np.random.default_rng(0).permutation(500)).double()
    rows = torch.stack([angles.cos(), angles.sin()], dim=1) * 1e18
    targets = Targets.uniform(torch.tensor([[2.0, 0.0], [0.0, -1.0], [-1.0, 0.0]]).double())
    values = np.sort(np.round(angles.cos().numpy() / STEP) * STEP)
    for percent in (0, 13, 50, 99, 100):
        found = settled(rows, targets, 3, Fraction(percent, 100))
        assert found.floor.limit == values[min(5 * percent, 499)]
        assert found.num_left == int((values >= found.floor.limit).sum())


@pytest.mark.parametrize("length", [1e300, 1e-300, 1.0, 1e-20, 1e20])
def test_rows_that_float32_cannot_hold_are_ranked(length: float) -> None:
    rows = torch.tensor([[3, 4], [-3, 4], [0, 0], [4, 3], [-4, -3]], dtype=torch.float64)
    rows[:2] *= length
    found = settled(rows, Targets.uniform(torch.tensor([[5.0, 0.0]]).double()), 2, Fraction(4, 5))
    assert (found.floor.limit, found.num_left) == (round(0.8 / STEP) * STEP, 1)
    found = settled(rows, Targets.uniform(torch.tensor([[5.0, 0.0]]).double()), 2, Fraction(1, 5))
    assert (found.floor.limit, found.num_left) == (round(-0.6 / STEP) * STEP, 4)


def test_it_takes_one_pass_and_few_bytes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    made = similarity_floor.NearestSimilarities.__init__
    monkeypatch.setattr(
        similarity_floor.NearestSimilarities, "__init__", lambda self, *a: (passes.append(1), made(self, *a))[1]
    )
    rows, targets = rows_like_targets(3, torch.float32)
    pool = LocalPool(make_shards(rows, shuffled_ids(N, 1), 2))
    found = settle_floor(pool, target_directions(targets), Fraction(1, 2), NONE)
    _select(pool, targets, ITL, 10, found)
    assert len(passes) == 2, "one for each shard"
    assert all(len(shard.similarities(found.floor.directions)._screened) == shard.num_rows for shard in pool.shards)
    GreedySelector(pool, *_rule(ITL, targets)).select(3)
    assert all(shard._similarities is None for shard in pool.shards), "let go of where no floor is set"


def test_targets_that_are_like_nothing_bar_by_zero() -> None:
    rows = normal(20, DIM, 1)
    targets = Targets.uniform(torch.zeros(2, DIM, dtype=torch.float64))
    assert settled(rows, targets, 2, 0.0).num_left == 20
    assert settled(rows, targets, 2, STEP).num_left == 0


def _rule(rule: Rule, targets: Targets):
    acquisition = rule.acquisition(NOISE)
    return acquisition, acquisition.start(Posterior.prior(DIM), targets)


def _select(
    pool: LocalPool, targets: Targets, rule: Rule, n: int, found: SettledFloor, schedule=SMALL, replacement=False
) -> GreedyResult:
    limits = Limits(floor=found.floor)
    return GreedySelector(pool, *_rule(rule, targets), replacement, schedule, limits=limits).select(n)


@few_examples
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(DTYPES),
    num_shards=st.integers(1, 4),
    asked=st.sampled_from([-1.0, 0.0, 0.3, 1.0, "row 1", "row 3", *(Fraction(p, 100) for p in (0, 50, 90, 100))]),
    rule=st.sampled_from([ITL, VTL]),
    schedule=st.sampled_from([TINY, SMALL]),
    replacement=st.booleans(),
)
def test_picks_are_those_of_the_rows_above_the_floor(
    seed: int, dtype: torch.dtype, num_shards: int, asked, rule: Rule, schedule, replacement: bool
) -> None:
    rows, targets = rows_like_targets(seed, dtype)
    own, ids = cosines_one_by_one(rows, targets), shuffled_ids(N, seed)
    limit = float(own[int(asked[4:])]) if isinstance(asked, str) else asked  # of some rows exactly
    pool = LocalPool(make_shards(rows, ids, num_shards))
    found = settle_floor(pool, target_directions(targets), limit, NONE)
    below = np.flatnonzero(own < found.floor.limit).tolist()
    result = _select(pool, targets, rule, 12, found, schedule, replacement)
    n = 12 if replacement and len(below) < N else min(12, N - len(below))
    dense = dense_greedy(rule.dense, rows.double(), ids, targets, n, NOISE, replacement=replacement, excluded=below)
    assert picked(result) == ids[[pick.index for pick in dense]].tolist()
    assert result.stop == ("n" if len(dense) == 12 else "no_rows")
    assert found.num_left == N - len(below)


def test_no_values_travel() -> None:
    """What shards answer does not grow with their rows."""
    rows = normal(50_000, 3, 1)
    pool = LocalPool(make_shards(rows, np.arange(len(rows)), 2))
    directions = target_directions(Targets.uniform(normal(2, 3, 2)))
    for width in (0, 1, 10**6):
        for answer in pool.ask(similarity_ranks.CountQuestion(directions, NONE, 0, width)):
            assert len(answer.counts) == similarity_ranks._BINS
            assert answer.placed(lambda positions: positions + 1) is answer
