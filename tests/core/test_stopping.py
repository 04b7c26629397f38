"""A selection ends before the first pick that is not worth its cost, and never picks an excluded row."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from ray_itl.core.posterior import Targets
from ray_itl.core.reference import DensePick
from ray_itl.core.schedule import Schedule
from ray_itl.errors import ConfigError
from tests.combinations import covering
from tests.core.helpers import (
    ITL,
    RULES,
    SMALL,
    TINY,
    UNCERTAINTY,
    Problem,
    Rule,
    clustered,
    normal,
    picked,
    shuffled_ids,
    with_copies,
)

_N = 20
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
every_pair = pytest.mark.parametrize(
    ("rule", "num_shards", "schedule"),
    covering([RULES, [1, 3], [None, SMALL, TINY]], 2),
    ids=lambda value: value.name if isinstance(value, Rule) else None,
)
"""Of a rule, a number of shards and a schedule."""


@cache
def _dense(rule: Rule, min_gain: float = 0.0) -> list[DensePick]:
    return replace(_problem(rule), min_gain=min_gain).dense(_N)


@cache
def _dense_ids_without(rule: Rule, excluded: tuple[int, ...]) -> list[int]:
    return replace(_problem(rule), excluded=excluded).dense_ids(_N)


def _problem(rule: Rule) -> Problem:
    pool = with_copies(clustered(200, 8, 1), 0.2, 2).to(torch.float32)
    return Problem(rule, pool, shuffled_ids(200, 3), Targets.uniform(normal(5, 8, 4)), 0.1)


@every_pair
def test_it_stops_where_the_reference_does(rule: Rule, num_shards: int, schedule: Schedule | None) -> None:
    problem = _problem(rule)
    gains = [pick.gain for pick in _dense(rule)]
    for least in [gains[0] * 1.01, gains[3], gains[8] * 0.999, gains[8] * 1.001, gains[-1] / 2]:
        limited = replace(problem, min_gain=least)
        result, expected = limited.select(_N, num_shards, schedule), _dense(rule, least)
        assert [p.position for p in result.picks] == [pick.index for pick in expected]
        assert len(result.features) == len(expected)
        assert (result.next_gain is None) == (len(expected) == _N)
        if result.next_gain is not None:
            assert result.next_gain == pytest.approx(_dense(rule)[len(expected)].gain, rel=1e-9)


@every_rule
def test_a_pick_worth_just_what_is_asked_is_made_whatever_the_rounding(rule: Rule) -> None:
    problem = _problem(rule)
    lowest = int(np.argmin([pick.gain for pick in _dense(rule)[:12]]))
    for step in {0, lowest}:
        gains = {problem.select(step + 1, num_shards, TINY).picks[-1].gain for num_shards in (1, 2, 3, 7)}
        for least, num_shards in product(gains, (1, 2, 3, 7)):
            limited = replace(problem, min_gain=least)
            assert len(limited.select(step + 1, num_shards, SMALL).picks) == step + 1


def test_it_does_not_wait_for_gains_to_rise_again() -> None:
    """Two rows are worth little each, much together: after the first, the second gains more than the first did."""
    a, b = torch.tensor([[1.0, 1.0]]).double(), torch.tensor([[1.0, -0.95]]).double()
    problem = Problem(
        ITL, torch.cat([a, b]), np.array([1, 2]), Targets.uniform(torch.tensor([[1.0, 0.02]]).double()), 1e-3
    )
    first, second = problem.dense(2)
    assert second.gain > 2 * first.gain
    limited = replace(problem, min_gain=1.5 * first.gain)
    assert limited.select(2).picks == []
    assert limited.dense(2) == []


def test_nothing_picked_leaves_the_state_as_it_was() -> None:
    problem = replace(_problem(ITL), min_gain=100.0)
    result = problem.select(_N, 3, SMALL)
    assert (result.picks, tuple(result.features.shape)) == ([], (0, 8))
    torch.testing.assert_close(result.state.posterior.root, problem.posterior().root)


def test_resuming_stops_where_the_whole_selection_does() -> None:
    problem = _problem(ITL)
    problem = replace(problem, min_gain=problem.dense(_N)[9].gain * 1.0001)
    whole = problem.select(_N, 1, SMALL)
    assert 0 < len(whole.picks) < _N
    for k in (1, len(whole.picks)):
        resumed = problem.select(_N, 3, SMALL, list(zip(whole.picks[:k], whole.features[:k], strict=True)))
        assert [p.position for p in resumed.picks] == [p.position for p in whole.picks]


@every_pair
def test_excluded_rows_are_never_picked(rule: Rule, num_shards: int, schedule: Schedule | None) -> None:
    problem = _problem(rule)
    best = tuple(pick.index for pick in _dense(rule))
    limited = replace(problem, excluded=(*best[:12], 150, 7))
    expected = _dense_ids_without(rule, limited.excluded)
    assert picked(limited.select(_N, num_shards, schedule)) == expected
    earlier = limited.select(_N, num_shards, schedule)
    resumed = limited.select(_N, 2, schedule, list(zip(earlier.picks[:6], earlier.features[:6], strict=True)))
    assert picked(resumed) == expected


def test_no_more_can_be_asked_for_than_is_not_excluded() -> None:
    problem = replace(_problem(UNCERTAINTY), excluded=tuple(range(190)))
    assert sorted(p.position for p in problem.select(10, 2, TINY).picks) == list(range(190, 200))
    with pytest.raises(ConfigError, match=r"selection\.n=11, but the pool has 10 rows"):
        problem.select(11)
