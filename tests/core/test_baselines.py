"""Baselines: what they pick, with and without rows that are out of the game."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.baselines import select_baseline
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.result import GreedyResult
from ray_itl.core.shard import PoolShard
from ray_itl.errors import ConfigError
from tests.core.helpers import clustered, few_examples, make_shards, shuffled_ids

RULES: tuple[Literal["nearest", "cosine", "random"], ...] = ("nearest", "cosine", "random")


def _select(
    rule: Literal["nearest", "cosine", "random"], pool: LocalPool, n: int, excluded: np.ndarray
) -> GreedyResult:
    targets = Targets.uniform(clustered(5, pool.dim, 9))
    gain = InformationGain(0.5)
    state = gain.start(Posterior.prior(pool.dim), targets)
    return select_baseline(pool, rule, targets, n, gain, state, seed=3, excluded=excluded)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [1, 7, 40])
def test_excluding_rows_is_like_a_pool_without_them(rule: Literal["nearest", "cosine", "random"], n: int) -> None:
    rows, ids = clustered(90, 6, 2).float(), np.arange(90) * 11
    whole = LocalPool([PoolShard(MemoryFeatures(rows[a:b]), ids[a:b], a) for a, b in ((0, 50), (50, len(rows)))])
    # Those that would be picked first, and some that would not.
    first = [pick.position for pick in _select(rule, whole, 30, np.empty(0, dtype=np.int64)).picks]
    excluded = np.unique(np.array([*first[:20], 3, 80]))
    left = np.setdiff1d(np.arange(90), excluded)
    small = LocalPool([PoolShard(MemoryFeatures(rows[torch.from_numpy(left)]), ids[left], 0)])
    expected = _select(rule, small, n, np.empty(0, dtype=np.int64))
    found = _select(rule, whole, n, excluded)
    assert [pick.row_id for pick in found.picks] == [pick.row_id for pick in expected.picks]
    np.testing.assert_allclose([p.gain for p in found.picks], [p.gain for p in expected.picks], rtol=1e-12)


def test_more_picks_than_rows_left_are_refused() -> None:
    pool = LocalPool([PoolShard(MemoryFeatures(clustered(10, 3, 1).float()), np.arange(10), 0)])
    assert len(_select("random", pool, 6, np.arange(4)).picks) == 6
    with pytest.raises(ConfigError, match="6 rows to pick from"):
        _select("random", pool, 7, np.arange(4))


DIM = 3
_small = st.lists(st.integers(-1, 1), min_size=DIM, max_size=DIM)
"""Rows of few values: many ties, opposites, multiples, copies, and zeros."""


@st.composite
def situations(draw: st.DrawFn) -> tuple[torch.Tensor, np.ndarray, Targets, int, np.ndarray, int]:
    """Rows, ids, targets, picks, excluded positions and shards."""
    rows = draw(st.lists(_small, min_size=3, max_size=14))
    towards = draw(st.lists(_small.filter(any), min_size=1, max_size=4))
    weights = draw(st.lists(st.integers(0, 2), min_size=len(towards), max_size=len(towards)).filter(any))
    excluded = draw(st.sets(st.integers(0, len(rows) - 1), max_size=len(rows) - 1))
    n = draw(st.integers(1, len(rows) - len(excluded)))
    targets = Targets(torch.tensor(towards).double(), torch.tensor(weights).double())
    ids = shuffled_ids(len(rows), draw(st.integers(0, 5)))
    return torch.tensor(rows).float(), ids, targets, n, np.array(sorted(excluded), np.int64), draw(st.integers(1, 4))


def _cosines(rows: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """N x M, on the grid on which equal ones tie."""
    unit = [torch.nn.functional.normalize(m.double(), dim=1) for m in (rows, targets)]
    return (unit[0] @ unit[1].mT).numpy()


def _on_grid(values: np.ndarray) -> np.ndarray:
    return np.round(values * 2.0**32) / 2.0**32


def _picked(
    rule: Literal["nearest", "cosine"], situation: tuple, tasks: list[tuple[Targets, float]], num_before: int = 0
) -> list[int]:
    rows, ids, targets, n, excluded, num_shards = situation
    gain = InformationGain(0.5)
    state = gain.start(Posterior.prior(DIM), targets)
    pool = LocalPool(make_shards(rows, ids, num_shards))
    found = select_baseline(pool, rule, targets, n, gain, state, 3, excluded, tasks, num_before)
    return [pick.position for pick in found.picks]


@few_examples
@given(situation=situations())
def test_nearest_lets_targets_take_turns(situation: tuple) -> None:
    """As RDS+: each target in turn takes its most similar row that nobody has, the smaller id among equals."""
    rows, ids, targets, n, excluded, _ = situation
    cosines = _on_grid(_cosines(rows, targets.rows[targets.weights > 0]))
    expected: list[int] = []
    for turn in range(n):
        free = np.setdiff1d(np.arange(len(rows)), [*excluded, *expected])
        scores = cosines[free, turn % cosines.shape[1]]
        expected.append(int(free[np.lexsort((ids[free], -scores))[0]]))
    assert _picked("nearest", situation, []) == expected


@few_examples
@given(situation=situations(), data=st.data())
def test_nearest_in_several_goes_picks_what_it_does_in_one(situation: tuple, data: st.DataObject) -> None:
    rows, ids, targets, n, excluded, num_shards = situation
    expected, done = _picked("nearest", situation, []), []
    while len(done) < n:
        some = data.draw(st.integers(1, n - len(done)))
        out = np.union1d(excluded, done).astype(np.int64)
        done += _picked("nearest", (rows, ids, targets, some, out, num_shards), [], len(done))
    assert done == expected


@few_examples
@given(situation=situations(), split=st.integers(1, 3), weights=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=2))
def test_cosine_takes_the_task_that_a_row_is_most_similar_to(
    situation: tuple, split: int, weights: list[float]
) -> None:
    """As LESS: the largest over tasks of the mean over their targets."""
    rows, ids, targets, n, excluded, _ = situation
    parts = [slice(0, split), slice(split, None)]
    tasks = [(Targets(targets.rows[part], targets.weights[part]), w) for part, w in zip(parts, weights, strict=False)]
    scores = []
    for sample, weight in tasks:
        if (sample.weights > 0).any():
            share = (sample.weights / sample.weights.sum()).numpy()
            scores.append(weight * _cosines(rows, sample.rows) @ share)
    largest = max(weight for sample, weight in tasks if (sample.weights > 0).any())
    best = _on_grid(np.max(scores, axis=0) / largest)
    free = np.setdiff1d(np.arange(len(rows)), excluded)
    expected = free[np.lexsort((ids[free], -best[free]))][:n]
    assert _picked("cosine", situation, tasks) == expected.tolist()
