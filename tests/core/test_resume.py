"""A selection resumed after any pick makes the picks it would have made."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.messages import ScoreSpec
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Targets, directions
from tests.core.helpers import RULES, SMALL, Problem, Rule, clustered, normal, shuffled_ids, with_copies

_N = 18


@pytest.mark.parametrize("replacement", [False, True], ids=["once", "replacement"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_resuming_after_any_pick_gives_the_same_picks(rule: Rule, replacement: bool) -> None:
    pool = with_copies(clustered(160, 5, 1), 0.2, 2).to(torch.float32)
    problem = Problem(
        rule, pool, shuffled_ids(160, 3), Targets.uniform(normal(4, 5, 4)), 0.2, normal(2, 5, 5), replacement
    )
    whole = problem.select(_N, 3, SMALL)
    for k in range(_N + 1):
        earlier = list(zip(whole.picks[:k], whole.features[:k], strict=True))
        resumed = problem.select(_N, 1 + k % 4, SMALL, earlier)
        assert [(p.position, p.row_id) for p in resumed.picks] == [(p.position, p.row_id) for p in whole.picks]
        gains = [pick.gain for pick in whole.picks]
        assert [pick.gain for pick in resumed.picks] == pytest.approx(gains, rel=1e-9)
        torch.testing.assert_close(resumed.features, whole.features, rtol=0, atol=0)
        torch.testing.assert_close(resumed.state.posterior.root, whole.state.posterior.root)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_shards_get_what_picks_have_taught_and_not_each_of_them(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has D directions at most."""
    told_of: list[int] = []
    restore = LocalPool.restore

    def told(pool: LocalPool, start: ScoreSpec, *rest: Any) -> None:
        told_of.append(max(form.factor.shape[1] for form in start.quadratics))
        restore(pool, start, *rest)

    monkeypatch.setattr(LocalPool, "restore", told)
    problem = Problem(rule, clustered(160, 5, 1), shuffled_ids(160, 3), Targets.uniform(normal(4, 5, 4)), 0.2)
    whole = problem.select(_N, 2, SMALL)
    for k in (3, 10, 30):
        told_of.clear()
        resumed = problem.select(_N, 2, SMALL, list(zip(whole.picks[:k], whole.features[:k], strict=True)))
        assert [pick.row_id for pick in resumed.picks] == [pick.row_id for pick in whole.picks]
        assert 3 <= told_of[0] <= 5


def test_the_result_carries_the_picks_features_and_the_state_after_them() -> None:
    pool = clustered(60, 5, 1)
    problem = Problem(RULES[0], pool, shuffled_ids(60, 2), Targets.uniform(normal(3, 5, 3)), 0.1)
    result = problem.select(6, 2, SMALL)
    torch.testing.assert_close(result.features, pool[[pick.position for pick in result.picks]], rtol=0, atol=0)
    expected = problem.posterior().condition_on_rows(result.features, 0.1).root
    actual = result.state.posterior.root
    torch.testing.assert_close(actual @ actual.mT, expected @ expected.mT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_result_carries_the_directions_of_its_picks(rule: Rule) -> None:
    pool = clustered(160, 12, 1)
    problem = Problem(rule, pool, shuffled_ids(160, 3), Targets.uniform(normal(4, 12, 4)), 0.2, normal(2, 12, 5))
    whole = problem.select(_N, 3, SMALL)
    resumed = problem.select(_N, 3, SMALL, list(zip(whole.picks[:7], whole.features[:7], strict=True)))
    expected = directions(problem.posterior(), whole.features, 0.2)
    for result in (whole, resumed):
        assert result.directions is not None
        torch.testing.assert_close(result.directions, expected, rtol=0, atol=1e-13)


class _Own(InformationGain):
    """Says nothing of what its columns are."""


class _OwnRule(Rule):
    def acquisition(self, noise: float) -> Acquisition:
        return _Own(noise)


def test_of_a_rule_of_ones_own_and_of_more_picks_than_are_kept_no_directions_are_claimed() -> None:
    pool, targets = clustered(160, 5, 1), Targets.uniform(normal(4, 5, 4))
    for rule, n in ((_OwnRule("own", "itl"), 4), (RULES[0], 11)):
        assert Problem(rule, pool, shuffled_ids(160, 3), targets, 0.2).select(n, 1, SMALL).directions is None
