"""Runners-up are those of the dense float64 definition, for every rule, storage type and split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core import rivals
from ray_itl.core.explain import RunnerUp, runners_up
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Targets
from tests.core.helpers import (
    ITL,
    RULES,
    Problem,
    Rule,
    as_number,
    as_text,
    clustered,
    make_shards,
    normal,
    power_law,
    shuffled_ids,
    with_copies,
    with_zeros,
)
from tests.oracle import first_in_order, size_beside_noise

_N, _DIM, _PICKS = 180, 12, 20


def _problem(rule: Rule, pool: Tensor, noise: float = 0.1, **changes) -> Problem:
    targets = Targets.uniform(power_law(9, _DIM, seed=7, exponent=0.5))
    return Problem(rule, pool, shuffled_ids(len(pool), seed=6), targets, noise, **changes)


def _found(
    problem: Problem, n: int, num_shards: int, precision: Any = "float64", text: bool = False
) -> list[RunnerUp | None]:
    result = problem.select(n)
    acquisition = problem.rule.acquisition(problem.noise)
    ids = as_text(problem.ids) if text else problem.ids
    return runners_up(
        LocalPool(make_shards(problem.pool, ids, num_shards)),
        acquisition,
        acquisition.start(problem.posterior(), problem.targets),
        result.picks,
        result.features,
        precision,
        problem.replacement,
        np.array(problem.excluded, dtype=np.int64),
    )


def _expected(problem: Problem, n: int) -> list[tuple[int, float] | None]:
    """The first of all gains at each step, without the rows that could not be picked there."""
    dense = problem.dense(n)
    scale = float(problem.targets.weighted.square().sum()) if problem.rule.dense == "vtl" else 1.0
    scale *= size_beside_noise(problem.pool, problem.noise)
    free = torch.ones(len(problem.pool), dtype=torch.bool)
    free[list(problem.excluded)] = False
    expected: list[tuple[int, float] | None] = []
    for pick in dense:
        rest = free.clone()
        rest[pick.index] = False
        free[pick.index] = problem.replacement
        gains = pick.gains.masked_fill(~rest, float("-inf"))
        second = first_in_order(gains, problem.ids, scale) if rest.any() else None
        expected.append(None if second is None else (second, pick.gain - float(pick.gains[second])))
    return expected


def _assert_same(problem: Problem, n: int, found: list[RunnerUp | None]) -> None:
    expected = _expected(problem, n)
    assert len(found) == len(expected) == n
    for runner, second in zip(found, expected, strict=True):
        if second is None:
            assert runner is None
            continue
        assert runner is not None
        assert (runner.position, as_number(runner.row_id)) == (second[0], problem.ids[second[0]])
        assert runner.margin == pytest.approx(second[1], rel=1e-6, abs=1e-9)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks and several blocks of steps."""
    monkeypatch.setattr("ray_itl.core.feature_store.chunk_rows_for", lambda _: 16)
    monkeypatch.setattr(rivals, "_BLOCK", 7)
    monkeypatch.setattr(rivals, "_FIRST_ROWS", 5)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("num_shards", [1, 4])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["power", "copies"])
def test_runners_up_are_those_of_the_definition(rule: Rule, num_shards: int, precision: str, kind: str) -> None:
    pool = power_law(_N, _DIM, seed=1)
    if kind == "copies":
        pool = with_zeros(with_copies(clustered(_N, _DIM, seed=3), 0.4, seed=4), 0.05, seed=5)
    problem = _problem(rule, pool.to(torch.float32))
    _assert_same(problem, _PICKS, _found(problem, _PICKS, num_shards, precision))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_storage_types_and_text_ids(dtype: torch.dtype) -> None:
    problem = _problem(ITL, power_law(_N, _DIM, seed=1).to(dtype))
    _assert_same(problem, _PICKS, _found(problem, _PICKS, 3, text=True))


@pytest.mark.parametrize("replacement", [False, True])
def test_known_excluded_and_repeated_rows(replacement: bool) -> None:
    changes = {"known": normal(5, _DIM, seed=8), "replacement": replacement, "excluded": tuple(range(0, 60, 2))}
    problem = _problem(ITL, power_law(_N, _DIM, seed=1), noise=2.0, **changes)
    if replacement:
        assert len({pick.index for pick in problem.dense(40)}) < 40
    _assert_same(problem, 40, _found(problem, 40, 2))


def test_the_last_row_has_no_runner_up() -> None:
    problem = _problem(ITL, power_law(10, _DIM, seed=1))
    found = _found(problem, 10, 2)
    assert found[-1] is None
    assert None not in found[:-1]
    _assert_same(problem, 10, found)


def test_nothing_but_copies_goes_by_id() -> None:
    """Far more rows tie than are kept."""
    problem = _problem(ITL, normal(1, _DIM, seed=1).repeat(400, 1))
    _assert_same(problem, 12, _found(problem, 12, 2))


def test_without_picks_there_is_nothing_to_say() -> None:
    acquisition = ITL.acquisition(0.1)
    problem = _problem(ITL, power_law(10, _DIM, seed=1))
    state = acquisition.start(problem.posterior(), problem.targets)
    none = torch.empty(0, _DIM, dtype=torch.float64)
    assert runners_up(LocalPool(make_shards(problem.pool, problem.ids, 1)), acquisition, state, [], none) == []
