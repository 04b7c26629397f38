"""The contract on a device: picks are those of the dense float64 reference, which is computed on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from ray_itl.core import messages
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.messages import Block, BlockReport
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Targets
from ray_itl.core.reference import one_pass_per_pick
from ray_itl.core.result import GreedyResult
from tests.combinations import covering
from tests.core import limit_cases
from tests.core.helpers import (
    ITL,
    RULES,
    SMALL,
    TINY,
    VTL,
    Problem,
    Rule,
    clustered,
    make_shards,
    normal,
    picked,
    power_law,
    random,
    shuffled_ids,
    with_copies,
    with_zeros,
)

_N, _DIM, _PICKS = 200, 12, 24
_RUNGS = getattr(messages, "PRECISIONS", (None,))
"""Precisions of the screen, where one can be asked for."""
_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


@dataclass(frozen=True)
class _Cell:
    rule: Rule
    dtype: torch.dtype
    kind: str
    noise: float
    situation: str
    num_shards: int
    schedule: BlockSchedule
    chunk_rows: int
    rung: Any

    def __str__(self) -> str:
        names = f"{self.rule.name}-{self.dtype}-{self.kind}-{self.noise}-{self.situation}"
        return f"{names}-{self.num_shards}-{self.schedule.block}-{self.chunk_rows}-{self.rung}"


_CELLS = [
    _Cell(*values)
    for values in covering(
        [
            RULES,
            _DTYPES,
            ["power", "clustered", "copies"],
            [1e-3, 0.03, 1.0],
            ["plain", "known", "replacement"],
            [1, 2, 5],
            [TINY, SMALL],
            [1, 37, 10_000],
            _RUNGS,
        ],
        2,
    )
]


def _rows(kind: str) -> torch.Tensor:
    if kind == "power":
        return power_law(_N, _DIM, seed=1)
    rows = clustered(_N, _DIM, seed=2)
    return rows if kind == "clustered" else with_zeros(with_copies(rows, 0.3, seed=4), 0.05, seed=5)


@cache
def _problem(rule: Rule, dtype: torch.dtype, kind: str, noise: float, situation: str) -> Problem:
    known = normal(5, _DIM, seed=8) if situation == "known" else None
    targets = Targets(power_law(9, _DIM, seed=7, exponent=0.5), torch.linspace(0.0, 2.0, 9, dtype=torch.float64))
    ids, replacement = shuffled_ids(_N, seed=6), situation == "replacement"
    return Problem(rule, _rows(kind).to(dtype), ids, targets, noise, known, replacement)


@cache
def _expected(rule: Rule, dtype: torch.dtype, kind: str, noise: float, situation: str) -> list[int]:
    return _problem(rule, dtype, kind, noise, situation).dense_ids(_PICKS)


def _on(problem: Problem, device: torch.device) -> Problem:
    return replace(problem, pool=problem.pool.to(device))


def _select(problem: Problem, cell: _Cell) -> GreedyResult:
    rule, asked = problem.rule.acquisition(problem.noise), {} if cell.rung is None else {"screening": cell.rung}
    pool = LocalPool(make_shards(problem.pool, problem.ids, cell.num_shards))
    state = rule.start(problem.posterior(), problem.targets)
    return GreedySelector(pool, rule, state, problem.replacement, cell.schedule, **asked).select(_PICKS)


@pytest.mark.parametrize("cell", _CELLS, ids=str)
def test_picks_equal_the_dense_reference(cell: _Cell, device: torch.device, chunks_of: Callable[[int], None]) -> None:
    """Every choice of two of: rule, storage, pool, noise, situation, shards, schedule, rows of a chunk, screen."""
    chunks_of(cell.chunk_rows)
    key = (cell.rule, cell.dtype, cell.kind, cell.noise, cell.situation)
    assert picked(_select(_on(_problem(*key), device), cell)) == _expected(*key)


def test_the_state_of_rows_is_on_the_device(device: torch.device) -> None:
    (shard,) = make_shards(clustered(50, 4, 1).to(device), shuffled_ids(50, 2), 1)
    assert {shard.features.device.type, shard.norms.device.type, shard.held.device.type} == {device.type}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_copies_beyond_every_limit_are_released_and_return(
    rule: Rule, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More exact copies of each best row than candidates: the copy of smallest id must survive every release."""
    released: list[int] = []
    verify = LocalPool.verify

    def told(pool: LocalPool, block: Block) -> BlockReport:
        released.extend(block.released.tolist())
        return verify(pool, block)

    monkeypatch.setattr(LocalPool, "verify", told)
    rows = clustered(3, 6, seed=1, num_clusters=3)
    pool = torch.cat([rows.repeat(150, 1), -rows.repeat(50, 1)]).to(torch.float32)
    problem = Problem(rule, pool, shuffled_ids(len(pool), 2), Targets.uniform(normal(4, 6, 3)), 0.5)
    result = _on(problem, device).select(12, 2, TINY)
    assert picked(result) == problem.dense_ids(12)
    assert released


def test_rows_that_tie_without_being_equal(device: torch.device) -> None:
    """Near-copies that tie in chains (a ~ b, b ~ c, not a ~ c), in an order of gain that is not the order of ids."""
    for seed, spread in enumerate([5e-10, 3e-9, 2e-8]):
        steps = torch.randperm(60, generator=random(seed)) / 60
        pool = torch.tensor([[1.0, 0.5]], dtype=torch.float64) * (1 - spread * steps)[:, None]
        problem = Problem(ITL, pool, shuffled_ids(60, seed), Targets.uniform(pool[:1]), 0.5)
        assert picked(_on(problem, device).select(3, 2, TINY)) == problem.dense_ids(3)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_selection_resumes(rule: Rule, device: torch.device) -> None:
    problem = _problem(rule, torch.float32, "copies", 0.03, "known")
    whole = _on(problem, device).select(_PICKS, 3, SMALL)
    for done in (1, 7, _PICKS - 1):
        earlier = list(zip(whole.picks[:done], whole.features[:done], strict=True))
        resumed = _on(problem, device).select(_PICKS, 2, SMALL, earlier)
        assert picked(resumed) == problem.dense_ids(_PICKS)


@pytest.mark.parametrize("number", range(8))
def test_limits_hold(number: int, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs, budgets, quotas, distances and what to avoid."""
    combinations = limit_cases.combinations(2)
    monkeypatch.setattr(limit_cases, "MemoryFeatures", lambda rows: MemoryFeatures(rows.to(device)))
    for rule, case, num_shards, schedule, dtype in combinations[number::8]:
        result = limit_cases.selector_of(rule, case, dtype, num_shards, schedule).select(limit_cases.PICKS)
        expected = limit_cases.expected_picks(rule, case, dtype)
        assert [pick.row_id for pick in result.picks] == limit_cases.IDS[[pick.index for pick in expected]].tolist()


@pytest.mark.parametrize("rule", [ITL, VTL], ids=lambda rule: rule.name)
def test_a_pool_too_large_for_the_dense_reference(rule: Rule, device: torch.device) -> None:
    num_rows, dim, n = 20_000, 128, 30
    pool = clustered(num_rows, dim, 1, 200, spread=0.7).to(torch.float32)
    targets = Targets.uniform(pool[:: num_rows // 40].double() + 0.05 * dim**-0.5 * normal(40, dim, 2))
    problem = Problem(rule, pool, np.arange(num_rows), targets, 0.1)
    if rule is ITL:
        expected = one_pass_per_pick(pool.double(), targets, n, 0.1)
    else:
        expected = [pick.position for pick in problem.select(n, 1).picks]
    result = _on(problem, device).select(n, 3)
    assert [pick.position for pick in result.picks] == expected
    assert result.stats.passes < n
