"""Passes besides those of a selection give on a device what they give on the CPU; and no pass waits for it often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.clocked_pool import VERIFICATION, Clock, clocked
from benchmarks.gpu import Synchronisations
from ray_itl.core.explain import runners_up
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.ranking import RankQuery
from tests.core.helpers import (
    ITL,
    RULES,
    SMALL,
    Problem,
    Rule,
    clustered,
    make_shards,
    normal,
    shuffled_ids,
    with_copies,
)

_N, _DIM, _CHUNK = 300, 6, 64
_MOST_WAITS = 2
"""For each chunk of a pass: to find the rows that may beat a pick, and to take them out."""


@pytest.fixture(autouse=True)
def _several_chunks(chunks_of: Callable[[int], None]) -> None:
    chunks_of(_CHUNK)


def _pool(device: torch.device, num_shards: int = 3) -> LocalPool:
    rows = with_copies(clustered(_N, _DIM, 1), 0.2, 2).to(device, torch.float32)
    return LocalPool(make_shards(rows, shuffled_ids(_N, 3), num_shards))


def test_baselines_rank_the_same(device: torch.device) -> None:
    for kind in ("cosine", "random"):
        query = RankQuery(kind, torch.nn.functional.normalize(normal(3, _DIM, 4), dim=1), 20)
        found, expected = _pool(device).rank(query), _pool(torch.device("cpu"), 1).rank(query)
        for one, other in zip(found.lists, expected.lists, strict=True):
            assert found.rows.positions[one].tolist() == expected.rows.positions[other].tolist()


def test_the_second_moment_and_the_norms_are_the_same(device: torch.device) -> None:
    found, expected = _pool(device), _pool(torch.device("cpu"))
    torch.testing.assert_close(found.second_moment(), expected.second_moment(), rtol=1e-12, atol=1e-12)
    assert found.largest_norm() == pytest.approx(expected.largest_norm(), rel=1e-12)
    assert found.mean_squared_norm() == expected.mean_squared_norm()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_runners_up_are_the_same(rule: Rule, device: torch.device) -> None:
    pool, targets = with_copies(clustered(_N, _DIM, 1), 0.2, 2).float(), Targets.uniform(normal(4, _DIM, 5))
    problem = Problem(rule, pool, shuffled_ids(_N, 3), targets, 0.2)
    result, acquisition = problem.select(15), rule.acquisition(problem.noise)

    def found(where: LocalPool) -> list[int | None]:
        state, none = acquisition.start(problem.posterior(), targets), np.array([], dtype=np.int64)
        rivals = runners_up(where, acquisition, state, result.picks, result.features, "float64", False, none)
        return [None if rival is None else rival.position for rival in rivals]

    assert found(_pool(device)) == found(_pool(torch.device("cpu"), 1))


def test_a_verify_pass_waits_for_the_device_at_most_twice_a_chunk(device: torch.device) -> None:
    """As far as can be counted: with five times the rows, how many more waits. On the CPU nobody waits."""
    waits: list[float] = []
    for num_rows in (_N, 5 * _N):
        rows = clustered(num_rows, _DIM, 1).to(device, torch.float32)
        counted = Synchronisations(device)
        clock = Clock(watch=counted.watch)
        pool = clocked(LocalPool(make_shards(rows, shuffled_ids(num_rows, 3), 1)), clock)
        rule = ITL.acquisition(0.2)
        state = rule.start(Posterior.prior(_DIM), Targets.uniform(normal(4, _DIM, 5)))
        GreedySelector(pool, rule, state, schedule=SMALL).select(40)
        waits.append(counted.counts[VERIFICATION] / clock.calls[VERIFICATION])
    assert waits[1] - waits[0] <= _MOST_WAITS * 4 * _N / _CHUNK
