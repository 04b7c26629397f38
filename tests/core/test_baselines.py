"""Baselines: what they pick, with and without rows that are out of the game."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.baselines import select_baseline
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.result import GreedyResult
from ray_itl.core.shard import PoolShard
from ray_itl.errors import ConfigError
from tests.core.helpers import clustered

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
