"""The contract: the engine's picks are the dense float64 reference's, for every rule, storage type and split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core.posterior import Targets
from ray_itl.core.reference import one_pass_per_pick
from ray_itl.core.schedule import Schedule
from tests.combinations import covering
from tests.core.helpers import (
    ITL,
    RULES,
    SMALL,
    TINY,
    UNCERTAINTY,
    Problem,
    Rule,
    as_text,
    clustered,
    normal,
    picked,
    power_law,
    random,
    shuffled_ids,
    with_copies,
    with_zeros,
)

_N, _DIM, _PICKS = 200, 12, 24
_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
_SHARDS = [1, 2, 3, 7]
_NOISES = [1e-3, 0.03, 1.0, 30.0]
_POOLS = ["power", "clustered", "copies"]


@dataclass(frozen=True)
class _Situation:
    known: bool = False
    weighted: bool = False
    replacement: bool = False


_SITUATIONS = {
    "plain": _Situation(),
    "known": _Situation(known=True),
    "weighted": _Situation(weighted=True),
    "replacement": _Situation(replacement=True),
    "everything": _Situation(known=True, weighted=True, replacement=True),
}


def _pool(kind: str) -> Tensor:
    if kind == "power":
        return power_law(_N, _DIM, seed=1)
    if kind == "clustered":
        return clustered(_N, _DIM, seed=2)
    return with_zeros(with_copies(clustered(_N, _DIM, seed=3), 0.3, seed=4), 0.05, seed=5)


@cache
def _problem(rule: Rule, dtype: torch.dtype, situation: _Situation, noise: float, kind: str) -> Problem:
    weights = torch.linspace(0.0, 2.0, 9, dtype=torch.float64) if situation.weighted else torch.ones(9).double()
    return Problem(
        rule,
        _pool(kind).to(dtype),
        shuffled_ids(_N, seed=6),
        Targets(power_law(9, _DIM, seed=7, exponent=0.5), weights),
        noise,
        known=normal(5, _DIM, seed=8) if situation.known else None,
        replacement=situation.replacement,
    )


@cache
def _expected(rule: Rule, dtype: torch.dtype, situation: _Situation, noise: float, kind: str) -> list[int]:
    return _problem(rule, dtype, situation, noise, kind).dense_ids(_PICKS)


@dataclass(frozen=True)
class _Cell:
    rule: Rule
    dtype: torch.dtype
    num_shards: int
    situation: str
    schedule: Schedule | None
    noise: float
    kind: str
    shuffled: bool
    text_ids: bool

    def __str__(self) -> str:
        return f"{self.rule.name}-{self.dtype}-{self.num_shards}-{self.situation}-{self.noise}-{self.kind}"

    def check(self, seed: int) -> None:
        key = (self.rule, self.dtype, _SITUATIONS[self.situation], self.noise, self.kind)
        problem = _problem(*key)
        if self.shuffled:
            problem = problem.shuffle(seed)
        if self.text_ids:
            problem = replace(problem, ids=as_text(problem.ids))
        assert picked(problem.select(_PICKS, self.num_shards, self.schedule)) == _expected(*key), self


_ROUND = ([SMALL, TINY, None], _NOISES, _POOLS, [False, True], [False, True])
_CELLS = [_Cell(*values) for values in covering([RULES, _DTYPES, _SHARDS, list(_SITUATIONS), *_ROUND], 3)]


@pytest.mark.parametrize("number", range(len(_CELLS)), ids=lambda number: str(_CELLS[number]))
def test_picks_equal_the_dense_reference(number: int) -> None:
    """Every choice of three of: rule, storage, shards, situation, schedule, noise, pool, order of rows, type of ids."""
    _CELLS[number].check(seed=number)


@pytest.mark.slow
@pytest.mark.parametrize("situation", _SITUATIONS)
@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_all_picks_equal_the_dense_reference(rule: Rule, dtype: torch.dtype, situation: str) -> None:
    """With every choice of three of the others for each."""
    for seed, values in enumerate(covering([_SHARDS, *_ROUND], 3)):
        num_shards, *others = values
        _Cell(rule, dtype, num_shards, situation, *others).check(seed)


def test_the_small_schedules_do_make_many_passes() -> None:
    """The matrix above would prove little if everything were settled in one pass."""
    problem = _problem(ITL, torch.float32, _SITUATIONS["plain"], 0.03, "clustered")
    small, tiny = problem.select(_PICKS, 3, SMALL).stats, problem.select(_PICKS, 3, TINY).stats
    assert small.passes >= 4
    assert any(accepted < size for size, accepted in small.blocks)
    assert tiny.passes >= 15
    assert any(accepted == 0 for _, accepted in tiny.blocks)


@pytest.mark.parametrize("schedule", [TINY, SMALL], ids=["tiny", "small"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_copies_beyond_every_limit(rule: Rule, schedule: Schedule) -> None:
    """More exact copies of each best row than candidates: the copy of smallest id must survive every release."""
    rows = clustered(3, 6, seed=1, num_clusters=3)
    pool = torch.cat([rows.repeat(150, 1), -rows.repeat(50, 1)]).to(torch.float32)
    problem = Problem(rule, pool, shuffled_ids(len(pool), 2), Targets.uniform(normal(4, 6, 3)), 0.5)
    assert picked(problem.select(12, 2, schedule)) == problem.dense_ids(12)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("spread", [5e-10, 3e-9, 2e-8], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rows_that_tie_without_being_equal(rule: Rule, spread: float) -> None:
    """Near-copies that tie in chains (a ~ b, b ~ c, not a ~ c), in an order of gain that is not the order of ids."""
    for seed in range(5):
        steps = torch.randperm(60, generator=random(seed)) / 60
        pool = torch.tensor([[1.0, 0.5]], dtype=torch.float64) * (1 - spread * steps)[:, None]
        problem = Problem(rule, pool, shuffled_ids(60, seed), Targets.uniform(pool[:1]), 0.5)
        assert picked(problem.select(3, 2, TINY)) == problem.dense_ids(3)


def test_rows_that_tie_only_after_an_earlier_pick_of_the_block() -> None:
    """Close calls are judged under the picks before them: a and b tie once y is known, before it a was far ahead."""
    noise = 0.1
    left = noise / (4 + noise)
    y, a, b = (2.0, 0.0), (1.0, 1.0), (0.5, (1 + 0.75 * left) ** 0.5)
    fillers = [(1.25 + 0.001 * k, 0.0) for k in range(6)]
    pool = torch.tensor([y, a, b, *fillers], dtype=torch.float64)
    ids = np.array([5, 6, 1, 10, 11, 12, 13, 14, 15])
    problem = Problem(UNCERTAINTY, pool, ids, Targets.uniform(pool[:1]), noise)
    result = problem.select(2, 1, TINY)
    assert picked(result) == [5, 1] == problem.dense_ids(2)
    assert result.stats.blocks[0] == (2, 1)


def test_a_larger_pool() -> None:
    pool = with_copies(clustered(2000, 24, seed=1, num_clusters=40), 0.05, seed=2).to(torch.float16)
    problem = Problem(ITL, pool, shuffled_ids(2000, 3), Targets.uniform(clustered(30, 24, 4)), 0.05)
    assert picked(problem.select(8, 3, SMALL)) == problem.dense_ids(8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["clustered", "power"])
def test_a_pool_too_large_for_the_dense_reference(kind: str) -> None:
    num_rows, dim, n = 200_000, 256, 60
    rows = clustered(num_rows, dim, 1, 200, spread=0.7) if kind == "clustered" else power_law(num_rows, dim, 1)
    pool = rows.to(torch.float32)
    targets = Targets.uniform(pool[:: num_rows // 100].to(torch.float64) + 0.05 * dim**-0.5 * normal(100, dim, 2))
    ids = shuffled_ids(num_rows, 3)
    noise = 0.1 * float(pool.square().sum(dim=1).mean())
    expected = one_pass_per_pick(pool.to(torch.float64), targets, n, noise)
    result = Problem(ITL, pool, ids, targets, noise).select(n, 3)
    assert [pick.position for pick in result.picks] == expected
    assert result.stats.passes < n / 2
