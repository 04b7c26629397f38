"""What the theory says about ITL and VTL, of the dense reference and of the engine alike.

Numbers as in the paper, Huebotter et al., "Transductive Active Learning", arXiv 2402.15898.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.reference import condition_kernel, dense_gains, dense_kernel, joint_information
from tests.core.helpers import (
    ITL,
    ITL_EXACT,
    RULES,
    SMALL,
    TINY,
    UNCERTAINTY,
    VTL,
    Problem,
    Rule,
    clustered,
    few_examples,
    normal,
    picked,
    power_law,
    shuffled_ids,
    with_copies,
    with_zeros,
)


class _View(Protocol):
    """Gains of all pool rows, observed step by step: what reference and engine have in common."""

    def gains(self) -> Tensor: ...

    def pick(self, index: int) -> None: ...

    def variances(self) -> Tensor: ...


class _Dense:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._kernel = dense_kernel(problem.pool, problem.targets, problem.known, problem.noise)

    def gains(self) -> Tensor:
        p = self._problem
        target_noise = p.rule.target_noise(p.noise)
        return dense_gains(p.rule.dense, self._kernel, len(p.pool), p.targets.weights, p.noise, target_noise)

    def pick(self, index: int) -> None:
        self._kernel = condition_kernel(self._kernel, index, self._problem.noise)

    def variances(self) -> Tensor:
        return self._kernel.diagonal()[: len(self._problem.pool)]


class _Engine:
    def __init__(self, problem: Problem) -> None:
        self._pool = problem.pool
        self._acquisition = problem.rule.acquisition(problem.noise)
        self._state: AcquisitionState = self._acquisition.start(problem.posterior(), problem.targets)

    def gains(self) -> Tensor:
        return self._acquisition.gain(self._state.scores(self._pool))

    def pick(self, index: int) -> None:
        self._state = self._state.condition(self._pool[index])

    def variances(self) -> Tensor:
        return self._state.posterior.variance(self._pool)


View = Callable[[Problem], _View]
VIEWS: list[View] = [_Dense, _Engine]
every_view = pytest.mark.parametrize("view", VIEWS, ids=["reference", "engine"])
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@st.composite
def problems(draw: st.DrawFn, rule: Rule = ITL_EXACT, max_targets: int = 4) -> Problem:
    """Small problems of every shape; targets of full rank, so that their kernel is well conditioned."""
    dim = draw(st.integers(2, 6))
    num_rows = draw(st.integers(3, 14))
    num_targets = draw(st.integers(1, min(dim, max_targets)))
    seed = draw(st.integers(0, 10**6))
    make = draw(st.sampled_from([normal, power_law, clustered]))
    pool = make(num_rows, dim, seed)
    if draw(st.booleans()):
        pool = with_zeros(with_copies(pool, 0.3, seed), 0.1, seed)
    orthogonal = torch.linalg.qr(normal(dim, dim, seed + 7)).Q[:num_targets]
    scales = torch.linspace(0.5, 2.0, num_targets, dtype=torch.float64)[:, None]
    noise = draw(st.sampled_from([1e-3, 0.1, 1.0, 50.0]))
    return Problem(rule, pool, shuffled_ids(num_rows, seed), Targets.uniform(orthogonal * scales), noise)


def _information(problem: Problem, rows: list[int]) -> float:
    kernel = dense_kernel(problem.pool, problem.targets, None, problem.noise)
    n = len(problem.pool)
    return joint_information(kernel, range(n, n + len(problem.targets.rows)), rows, problem.noise)


# 1. Gains are never negative, and telescope to the information that all picks together have on the targets.


@every_view
@every_rule
@few_examples
@given(problem=problems(), data=st.data())
def test_gains_are_not_negative(view: View, rule: Rule, problem: Problem, data: st.DataObject) -> None:
    seen = view(replace(problem, rule=rule))
    for index in data.draw(st.lists(st.integers(0, len(problem.pool) - 1), max_size=6)):
        gains = seen.gains()
        assert bool((gains >= -1e-12).all())
        seen.pick(index)


@every_view
@few_examples
@given(problem=problems(), data=st.data())
def test_gains_telescope_to_the_joint_information(view: View, problem: Problem, data: st.DataObject) -> None:
    seen = view(problem)
    rows = data.draw(st.lists(st.integers(0, len(problem.pool) - 1), min_size=1, max_size=6, unique=True))
    total = 0.0
    for index in rows:
        total += float(seen.gains()[index])
        seen.pick(index)
    assert total == pytest.approx(_information(problem, rows), rel=1e-6, abs=1e-8)


def test_the_engines_picks_add_up_to_the_joint_information() -> None:
    problem = Problem(ITL_EXACT, clustered(80, 6, 1), shuffled_ids(80, 2), Targets.uniform(normal(3, 6, 3)), 0.2)
    result = problem.select(10, 2, SMALL)
    total = sum(pick.gain for pick in result.picks)
    assert total == pytest.approx(_information(problem, [pick.position for pick in result.picks]), rel=1e-9)


# 2. Forward (how a row shrinks the targets' volume) equals backward (how the targets shrink a row's variance).


@every_view
@few_examples
@given(problem=problems(), first=st.integers(0, 2), index=st.integers(0, 2))
def test_forward_equals_backward(view: View, problem: Problem, first: int, index: int) -> None:
    seen = view(problem)
    seen.pick(first)
    backward = float(seen.gains()[index])
    kernel = dense_kernel(problem.pool, problem.targets, None, problem.noise)
    before = condition_kernel(kernel, first, problem.noise)
    after = condition_kernel(before, index, problem.noise)
    n = len(problem.pool)
    forward = 0.5 * float(torch.logdet(before[n:, n:]) - torch.logdet(after[n:, n:]))
    assert backward == pytest.approx(forward, rel=1e-6, abs=1e-8)


# 3. With the pool among the targets, ITL is uncertainty sampling: submodular, its gains never rise.


@every_view
@few_examples
@given(problem=problems(), data=st.data())
def test_the_pool_among_the_targets_is_uncertainty_sampling(view: View, problem: Problem, data: st.DataObject) -> None:
    problem = replace(problem, targets=Targets.uniform(problem.pool))
    itl = view(problem)
    uncertainty = view(replace(problem, rule=UNCERTAINTY))
    before = torch.full((len(problem.pool),), float("inf"), dtype=torch.float64)
    for index in data.draw(st.lists(st.integers(0, len(problem.pool) - 1), max_size=5)):
        gains = itl.gains()
        closed = 0.5 * torch.log1p(itl.variances().clamp_min(0) / problem.noise)
        torch.testing.assert_close(gains, closed, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(gains, uncertainty.gains(), rtol=1e-6, atol=1e-7)
        assert bool((gains <= before + 1e-7).all())
        before = gains
        itl.pick(index)
        uncertainty.pick(index)


# 4. One target: ITL and VTL see the same correlation, and rank alike.


@every_view
@pytest.mark.parametrize("itl", [ITL, ITL_EXACT], ids=lambda rule: rule.name)
@few_examples
@given(problem=problems(max_targets=1), picks=st.lists(st.integers(0, 2), max_size=3))
def test_one_target_itl_and_vtl_rank_alike(view: View, itl: Rule, problem: Problem, picks: list[int]) -> None:
    seen = [view(replace(problem, rule=rule)) for rule in (itl, VTL)]
    for index in picks:
        for one in seen:
            one.pick(index)
    by_itl, by_vtl = (one.gains() / (one.gains().max() + 1e-9) for one in seen)
    for i in range(len(problem.pool)):
        for j in range(i):
            # Where one rule clearly prefers a row, the other must not prefer its rival.
            if by_itl[i] > by_itl[j] + 1e-6:
                assert by_vtl[i] >= by_vtl[j] - 1e-6
            if by_vtl[i] > by_vtl[j] + 1e-6:
                assert by_itl[i] >= by_itl[j] - 1e-6


@pytest.mark.parametrize("itl", [ITL, ITL_EXACT], ids=lambda rule: rule.name)
def test_one_target_itl_and_vtl_pick_the_same_rows(itl: Rule) -> None:
    problem = Problem(itl, power_law(120, 6, 1), shuffled_ids(120, 2), Targets.uniform(normal(1, 6, 3)), 0.3)
    assert picked(problem.select(15, 2, SMALL)) == picked(replace(problem, rule=VTL).select(15, 2, SMALL))


# 5. No target learns more from the rows than the rows hold.


@every_view
@few_examples
@given(problem=problems(), data=st.data())
def test_the_information_is_bounded_by_that_of_the_rows(view: View, problem: Problem, data: st.DataObject) -> None:
    seen = view(problem)
    rows = data.draw(st.lists(st.integers(0, len(problem.pool) - 1), min_size=1, max_size=6, unique=True))
    total = 0.0
    for index in rows:
        total += float(seen.gains()[index])
        seen.pick(index)
    x = problem.pool[rows]
    bound = 0.5 * float(torch.logdet(torch.eye(len(rows), dtype=torch.float64) + x @ x.mT / problem.noise))
    assert total <= bound + 1e-9


# 6. Synergy: a pair can tell more than the sum of its parts, so stale gains are no upper bounds.


def _synergy(a: float) -> Problem:
    """The target correlates with each of two independent rows by a."""
    covariance = torch.tensor([[1.0, a, a], [a, 1.0, 0.0], [a, 0.0, 1.0]], dtype=torch.float64)
    rows = torch.linalg.cholesky(covariance)
    return Problem(ITL_EXACT, rows[1:], np.arange(2), Targets.uniform(rows[:1]), 1e-6)


@every_view
@pytest.mark.parametrize("a", [0.3, 0.5, 0.7])
def test_synergy_breaks_submodularity(view: View, a: float) -> None:
    seen = view(_synergy(a))
    alone = seen.gains()
    seen.pick(0)
    together = seen.gains()
    assert float(alone[1]) == pytest.approx(-0.5 * np.log(1 - a * a), rel=1e-3)
    assert float(together[1]) > 1.05 * float(alone[1])
    assert float(alone[0] + together[1]) == pytest.approx(-0.5 * np.log(1 - 2 * a * a), rel=1e-3)


def test_the_engine_follows_a_gain_that_rises() -> None:
    """Stale-bound pruning would miss the second of two synergetic rows: alone it is worth less than the third row."""
    problem = _synergy(0.7)
    fillers = torch.zeros(40, 4, dtype=torch.float64)
    fillers[:, 0], fillers[:, 3] = 0.69, torch.linspace(0.74, 0.9, 40, dtype=torch.float64)
    widen = torch.zeros(3, 1, dtype=torch.float64)
    rows = torch.cat([torch.cat([problem.targets.rows, problem.pool]), widen], dim=1)
    problem = replace(
        problem,
        pool=torch.cat([rows[1:], fillers]),
        ids=shuffled_ids(42, 1),
        targets=Targets.uniform(rows[:1]),
        noise=1e-3,
    )
    expected = problem.dense(2)
    assert [pick.index for pick in expected][1] in (0, 1)
    first_gains = expected[0].gains
    assert expected[1].gain > float(first_gains[expected[1].index]) + 0.1
    assert float(first_gains[2:].max()) < expected[1].gain
    assert picked(problem.select(2, 2, TINY)) == problem.dense_ids(2)


# 7. Convergence: with ever more picks the variance of a point falls to what no row of the pool explains.


@every_view
@few_examples
@given(problem=problems())
def test_variance_falls_to_the_irreducible_and_never_below(view: View, problem: Problem) -> None:
    pool = torch.nn.functional.normalize(problem.pool[: problem.pool.shape[1] - 1], dim=1)
    probes = normal(5, pool.shape[1], 1)
    explained = torch.linalg.pinv(pool, rtol=1e-10) @ pool
    irreducible = (probes - probes @ explained).square().sum(dim=1)
    # The probes come after the pool, only to be looked at.
    seen = view(replace(problem, pool=torch.cat([pool, probes]), noise=1e-3))
    before = probes.square().sum(dim=1)
    for _ in range(3):
        for index in range(len(pool)):
            seen.pick(index)
            now = seen.variances()[len(pool) :]
            assert bool((now <= before + 1e-9).all())
            assert bool((now >= irreducible - 1e-9).all())
            before = now
    posterior = Posterior.prior(pool.shape[1])
    for _ in range(60):
        posterior = posterior.condition_on_rows(pool, 1e-12)
    left = posterior.variance(probes)
    torch.testing.assert_close(left, irreducible, rtol=1e-4, atol=1e-6)


def test_the_engines_picks_converge_to_the_irreducible_variance() -> None:
    pool = torch.cat([clustered(60, 4, 1), torch.zeros(60, 2)], dim=1).to(torch.float64)
    targets = normal(3, 6, 2)
    problem = Problem(VTL, pool, shuffled_ids(60, 3), Targets.uniform(targets), 1e-2, replacement=True)
    irreducible = targets[:, 4:].square().sum(dim=1)
    left = [problem.select(n, 2, SMALL).state.posterior.variance(targets) - irreducible for n in (4, 40, 160)]
    assert all(bool((gap > 0).all()) for gap in left)
    assert float(left[1].sum()) < 0.2 * float(left[0].sum())
    assert float(left[2].sum()) < 0.3 * float(left[1].sum())


# 8. Invariances.


@every_view
@every_rule
@few_examples
@given(problem=problems(), data=st.data())
def test_the_order_of_conditioning_does_not_matter(
    view: View, rule: Rule, problem: Problem, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(problem.pool) - 1), min_size=2, max_size=5))
    order = data.draw(st.permutations(rows))
    seen = [view(replace(problem, rule=rule)) for _ in range(2)]
    for one, sequence in zip(seen, (rows, order), strict=True):
        for index in sequence:
            one.pick(index)
    torch.testing.assert_close(seen[0].gains(), seen[1].gains(), rtol=1e-6, atol=1e-8)


@few_examples
@given(problem=problems())
def test_known_rows_count_like_picks(problem: Problem) -> None:
    known = problem.pool[:3]
    for view in VIEWS:
        told = view(replace(problem, rule=ITL, known=known))
        shown = view(replace(problem, rule=ITL))
        for index in range(3):
            shown.pick(index)
        # The targets' noise is observed along with them: eq. 44 conditions on the same rows in either order.
        torch.testing.assert_close(told.gains(), shown.gains(), rtol=1e-6, atol=1e-8)


@few_examples
@given(problem=problems())
def test_observing_twice_is_observing_once_at_half_the_noise(problem: Problem) -> None:
    row, prior = problem.pool[0], Posterior.prior(problem.pool.shape[1])
    twice = prior.condition(row, problem.noise).condition(row, problem.noise)
    once = prior.condition(row, problem.noise / 2)
    torch.testing.assert_close(twice.root @ twice.root.mT, once.root @ once.root.mT, rtol=1e-9, atol=1e-9)
    kernel = dense_kernel(problem.pool, problem.targets, None, problem.noise)
    dense_twice = condition_kernel(condition_kernel(kernel, 0, problem.noise), 0, problem.noise)
    torch.testing.assert_close(dense_twice, condition_kernel(kernel, 0, problem.noise / 2), rtol=1e-9, atol=1e-9)


def _transformed(problem: Problem, kind: str) -> Problem:
    pool, targets, dim = problem.pool, problem.targets.rows, problem.pool.shape[1]
    if kind == "larger":
        return replace(problem, pool=300 * pool, targets=Targets.uniform(300 * targets), noise=300**2 * problem.noise)
    if kind == "smaller":
        return replace(problem, pool=pool / 512, targets=Targets.uniform(targets / 512), noise=problem.noise / 512**2)
    if kind == "rotated":
        rotation = torch.linalg.qr(normal(dim, dim, 1)).Q
        return replace(problem, pool=pool @ rotation, targets=Targets.uniform(targets @ rotation))
    if kind == "more dimensions":
        embed = torch.linalg.qr(normal(dim + 3, dim + 3, 1)).Q[:dim]
        return replace(problem, pool=pool @ embed, targets=Targets.uniform(targets @ embed))
    signs = torch.where(torch.arange(len(pool)) % 2 == 0, 1.0, -1.0).double()[:, None]
    return replace(problem, pool=pool * signs, targets=Targets.uniform(-targets))


_TRANSFORMS = ["larger", "smaller", "rotated", "more dimensions", "signs flipped"]


@every_view
@pytest.mark.parametrize("kind", _TRANSFORMS)
@pytest.mark.parametrize("rule", [ITL, ITL_EXACT, UNCERTAINTY], ids=lambda rule: rule.name)
@few_examples
@given(problem=problems())
def test_gains_do_not_change_with(view: View, rule: Rule, kind: str, problem: Problem) -> None:
    problem = replace(problem, rule=rule)
    seen, changed = view(problem), view(_transformed(problem, kind))
    for index in (None, 0, 2):
        if index is not None:
            seen.pick(index)
            changed.pick(index)
        torch.testing.assert_close(seen.gains(), changed.gains(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", _TRANSFORMS)
@every_rule
def test_picks_do_not_change_with(rule: Rule, kind: str) -> None:
    """VTL too: its gains scale with the targets, its picks do not."""
    problem = Problem(rule, power_law(130, 6, 1), shuffled_ids(130, 2), Targets.uniform(normal(4, 6, 3)), 0.2)
    assert picked(_transformed(problem, kind).select(14, 2, SMALL)) == picked(problem.select(14, 2, SMALL))


@every_view
@few_examples
@given(problem=problems())
def test_a_repeated_target_changes_nothing_in_eq_43_and_doubles_its_weight_in_vtl(view: View, problem: Problem) -> None:
    rows, ones = problem.targets.rows, problem.targets.weights
    repeated = Targets.uniform(torch.cat([rows, rows[:1]]))
    doubled = Targets(rows, torch.cat([2 * ones[:1], ones[1:]]))

    def gains(rule: Rule, targets: Targets) -> Tensor:
        return view(replace(problem, rule=rule, targets=targets)).gains()

    torch.testing.assert_close(gains(ITL_EXACT, repeated), gains(ITL_EXACT, problem.targets), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gains(ITL_EXACT, doubled), gains(ITL_EXACT, problem.targets), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gains(VTL, repeated), gains(VTL, doubled), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gains(ITL, repeated), gains(ITL, doubled), rtol=1e-9, atol=1e-12)
    first = gains(VTL, Targets.uniform(rows[:1]))
    torch.testing.assert_close(gains(VTL, repeated), gains(VTL, problem.targets) + first, rtol=1e-9, atol=1e-12)


# 9. The split over shards and the order of rows do not matter; and reference and engine agree on every gain.


@every_rule
@few_examples
@given(problem=problems(), shards=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
def test_sharded_equals_flat(rule: Rule, problem: Problem, shards: int, seed: int, data: st.DataObject) -> None:
    problem = replace(problem, rule=rule, replacement=data.draw(st.booleans()))
    n = data.draw(st.integers(1, len(problem.pool)))
    flat = problem.select(n)
    sharded = problem.shuffle(seed).select(n, shards, data.draw(st.sampled_from([TINY, SMALL, None])))
    assert picked(sharded) == picked(flat) == problem.dense_ids(n)
    assert [pick.gain for pick in sharded.picks] == pytest.approx(
        [pick.gain for pick in flat.picks], rel=1e-8, abs=1e-11
    )


@every_rule
@few_examples
@given(problem=problems(), picks=st.lists(st.integers(0, 2), max_size=4))
def test_reference_and_engine_agree_on_every_gain(rule: Rule, problem: Problem, picks: list[int]) -> None:
    dense, engine = _Dense(replace(problem, rule=rule)), _Engine(replace(problem, rule=rule))
    for index in picks:
        dense.pick(index)
        engine.pick(index)
    torch.testing.assert_close(dense.gains(), engine.gains(), rtol=1e-7, atol=1e-9)


@every_rule
@few_examples
@given(problem=problems(), picks=st.lists(st.integers(0, 2), max_size=4))
def test_scores_shrink_by_the_products_the_columns_promise(rule: Rule, problem: Problem, picks: list[int]) -> None:
    """The incremental form that shards use: scores minus the decrements equal the scores of the new state."""
    acquisition = rule.acquisition(problem.noise)
    state = acquisition.start(problem.posterior(), problem.targets)
    tracked = [
        form.scale * problem.pool.square().sum(dim=1) + form.sign * (problem.pool @ form.factor).square().sum(dim=1)
        for form in state.quadratics()
    ]
    for index in picks:
        dots = (problem.pool @ state.columns(problem.pool[index]))[:, :, None]
        lost = acquisition.decrements(acquisition.products_(dots))
        tracked = [score - drop[:, 0] for score, drop in zip(tracked, lost, strict=True)]
        state = state.condition(problem.pool[index])
    for score, exact in zip(tracked, state.scores(problem.pool), strict=True):
        torch.testing.assert_close(score, exact, rtol=1e-8, atol=1e-9)
