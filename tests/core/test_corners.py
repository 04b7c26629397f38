"""Pools and targets that break careless arithmetic, and screening errors beyond the band."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.messages import Precision, Request, ScoreSpec
from ray_itl.core.posterior import Targets
from ray_itl.core.screening.kernels import BlockKernel
from ray_itl.core.screening.screen import Screen
from ray_itl.core.shard import PoolShard
from ray_itl.errors import ConfigError, NumericalError
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
    normal,
    picked,
    power_law,
    random,
    shuffled_ids,
    with_copies,
    with_zeros,
)
from tests.user_rules import Scaled

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def _problem(rule: Rule, pool: Tensor, targets: Tensor | Targets, noise: float = 0.1) -> Problem:
    targets = targets if isinstance(targets, Targets) else Targets.uniform(targets)
    return Problem(rule, pool, shuffled_ids(len(pool), 1), targets, noise)


def _assert_exact(problem: Problem, n: int, schedule: BlockSchedule | None = SMALL, num_shards: int = 3) -> None:
    assert picked(problem.select(n, num_shards, schedule)) == problem.dense_ids(n)


@every_rule
def test_rank_deficient_targets(rule: Rule) -> None:
    targets = normal(10, 3, 1) @ normal(3, 8, 2)
    _assert_exact(_problem(rule, clustered(150, 8, 3), targets), 20)


@every_rule
def test_repeated_targets(rule: Rule) -> None:
    _assert_exact(_problem(rule, clustered(150, 8, 3), normal(3, 8, 1).repeat(4, 1)), 20)


@every_rule
def test_more_targets_than_dimensions(rule: Rule) -> None:
    _assert_exact(_problem(rule, clustered(150, 6, 3), normal(40, 6, 1)), 20)


@every_rule
def test_one_target(rule: Rule) -> None:
    _assert_exact(_problem(rule, clustered(150, 6, 3), normal(1, 6, 1)), 20)


@every_rule
def test_a_tenth_of_the_rows_are_copies_and_a_tenth_zero(rule: Rule) -> None:
    pool = with_zeros(with_copies(clustered(200, 8, 3), 0.1, 4), 0.1, 5)
    _assert_exact(_problem(rule, pool.to(torch.float16), normal(5, 8, 1)), 30)


@every_rule
def test_one_row_repeated_thousands_of_times_is_decided_by_contests(rule: Rule) -> None:
    best = normal(1, 4, 2)
    pool = torch.cat([best.repeat(2000, 1), 0.1 * clustered(40, 4, 1)]).to(torch.float32)
    problem = _problem(rule, pool, best, noise=0.5)
    result = problem.select(6, 2, BlockSchedule(block=4, candidates=32, max_challengers=64))
    assert picked(result) == _greedy_over_kinds(problem, 2000, 6)
    assert result.stats.contests >= 1


def _greedy_over_kinds(problem: Problem, copies: int, n: int) -> list[int]:
    """The dense picks, with only the n copies of smallest id in the pool (the others never get a turn)."""
    few = torch.as_tensor(np.sort(np.argsort(problem.ids[:copies])[:n]))
    kept = torch.cat([few, torch.arange(copies, len(problem.ids))])
    return replace(problem, pool=problem.pool[kept], ids=problem.ids[kept.numpy()]).dense_ids(n)


@every_rule
def test_a_pool_of_zeros_is_picked_in_order_of_id(rule: Rule) -> None:
    problem = _problem(rule, torch.zeros(300, 4), normal(3, 4, 1))
    result = problem.select(8, 3, TINY)
    assert picked(result) == sorted(problem.ids.tolist())[:8]
    assert all(pick.gain == 0 for pick in result.picks)


@every_rule
def test_targets_orthogonal_to_the_pool(rule: Rule) -> None:
    pool = torch.cat([clustered(200, 4, 1), torch.zeros(200, 2)], dim=1)
    targets = torch.cat([torch.zeros(3, 4), normal(3, 2, 2)], dim=1)
    _assert_exact(_problem(rule, pool, targets), 10, TINY)


@every_rule
def test_all_targets_of_weight_zero(rule: Rule) -> None:
    targets = Targets(normal(3, 4, 1), torch.zeros(3, dtype=torch.float64))
    _assert_exact(_problem(rule, clustered(300, 4, 2), targets), 8, TINY)


@every_rule
def test_a_target_of_weight_zero_is_no_target(rule: Rule) -> None:
    pool, rows = clustered(150, 6, 3), normal(4, 6, 1)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    with_zero = _problem(rule, pool, Targets(rows, weights))
    without = _problem(rule, pool, Targets(rows[[0, 2, 3]], weights[[0, 2, 3]]))
    assert picked(with_zero.select(15, 2, SMALL)) == picked(without.select(15, 2, SMALL)) == with_zero.dense_ids(15)


@every_rule
def test_one_dimension_and_every_row_picked(rule: Rule) -> None:
    pool = torch.linspace(-2, 2, 60, dtype=torch.float64)[:, None] ** 3
    _assert_exact(_problem(rule, pool, normal(2, 1, 1)), 60, TINY)


@every_rule
@pytest.mark.parametrize("schedule", [TINY, SMALL, None], ids=["tiny", "small", "default"])
def test_every_row_of_the_pool_is_picked(rule: Rule, schedule: BlockSchedule | None) -> None:
    _assert_exact(_problem(rule, power_law(90, 6, 1), normal(3, 6, 2)), 90, schedule)


@every_rule
def test_a_pool_of_one_row(rule: Rule) -> None:
    problem = _problem(rule, normal(1, 5, 1), normal(3, 5, 2))
    assert picked(problem.select(1, 1)) == problem.ids.tolist()
    again = replace(problem, replacement=True)
    assert picked(again.select(5, 1, TINY)) == 5 * problem.ids.tolist()


def test_a_number_of_picks_out_of_range_is_refused() -> None:
    problem = _problem(ITL, normal(4, 3, 1), normal(2, 3, 2))
    for n in (0, 5):
        with pytest.raises(ConfigError, match=f"n={n}"):
            problem.select(n)


@every_rule
@pytest.mark.parametrize("noise", [1e-3, 1.0, 1e3], ids=str)
def test_rows_of_very_different_norms(rule: Rule, noise: float) -> None:
    norms = 10.0 ** torch.linspace(-3, 3, 150, dtype=torch.float64)
    pool = clustered(150, 8, 1) * norms[torch.randperm(150, generator=random(2)), None]
    problem = _problem(rule, pool, normal(5, 8, 3), noise * float(pool.square().sum(dim=1).mean()))
    assert _worst_regret(problem, 15, SMALL) < 1e-9


@every_rule
@pytest.mark.parametrize("relative_noise", [1e-8, 1e-6, 1e-3, 1.0, 1e3], ids=str)
@pytest.mark.parametrize("kind", ["power", "clustered", "copies"])
def test_noise_from_1e_minus_8_to_1e3_times_the_mean_squared_norm(rule: Rule, relative_noise: float, kind: str) -> None:
    pool = {
        "power": power_law(120, 8, 1, exponent=2.0),
        "clustered": clustered(120, 8, 1, spread=0.05),
        "copies": with_copies(power_law(120, 8, 1), 0.3, 2),
    }[kind]
    problem = _problem(rule, pool, normal(5, 8, 3), relative_noise * float(pool.square().sum(dim=1).mean()))
    assert _worst_regret(problem, 16, SMALL) < 1e-9


def _worst_regret(problem: Problem, n: int, schedule: BlockSchedule) -> float:
    """How far the engine's picks fall short of the best gain at their step, in the arithmetic of long doubles."""
    result = problem.select(n, 2, schedule)
    oracle = _LongOracle(problem)
    worst = 0.0
    for pick in result.picks:
        gains = oracle.gains()
        best = gains[oracle.available].max()
        worst = max(worst, float((best - gains[pick.position]) / max(best, 1e-3 * oracle.scale)))
        assert abs(pick.gain - float(gains[pick.position])) <= 1e-8 * max(float(best), 1e-3 * oracle.scale)
        oracle.pick(pick.position)
    return worst


class _LongOracle:
    """The definitions in numpy longdouble (64 bits of mantissa): observations one at a time, no linear solver."""

    def __init__(self, problem: Problem) -> None:
        self._rule, self._num_pool = problem.rule, len(problem.pool)
        self._noise = np.longdouble(problem.noise)
        target_noise = np.longdouble(problem.rule.target_noise(problem.noise))
        rows = torch.cat([problem.pool.to(torch.float64), problem.targets.rows]).numpy().astype(np.longdouble)
        self._given_picks = rows @ rows.T
        self._given_targets = self._given_picks.copy()
        for index in range(self._num_pool, len(rows)):
            self._given_targets = _observe(self._given_targets, index, target_noise)
        self.available = np.ones(self._num_pool, dtype=bool)
        self.scale = float(np.diag(self._given_picks)[self._num_pool :].sum()) if problem.rule.dense == "vtl" else 1.0

    def gains(self) -> np.ndarray:
        n, noise = self._num_pool, self._noise
        v, u = (np.maximum(np.diag(k)[:n], 0) for k in (self._given_picks, self._given_targets))
        if self._rule.dense == "vtl":
            return (self._given_picks[:n, n:] ** 2).sum(axis=1) / (v + noise)
        return np.log1p((v - u) / (u + noise) if self._rule.dense == "itl" else v / noise) / 2

    def pick(self, index: int) -> None:
        self._given_picks = _observe(self._given_picks, index, self._noise)
        self._given_targets = _observe(self._given_targets, index, self._noise)
        self.available[index] = False


def _observe(kernel: np.ndarray, index: int, noise: np.longdouble) -> np.ndarray:
    column = kernel[:, index]
    return kernel - np.outer(column, column) / (column[index] + noise)


def test_the_long_double_oracle_can_tell_a_wrong_pick() -> None:
    problem = _problem(ITL, power_law(50, 4, 1), normal(3, 4, 2), noise=1e-6)
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long doubles are doubles here")
    oracle = _LongOracle(problem)
    dense = problem.dense(3)
    for pick in dense:
        assert int(oracle.gains().argmax()) == pick.index
        oracle.pick(pick.index)
        assert oracle.gains()[pick.index] < oracle.gains().max()


class _Scaled(Rule):
    """ITL in other units, by a rule that tells nothing of its forms."""

    def acquisition(self, noise: float) -> Acquisition:
        return Scaled(noise)


def test_a_band_that_is_far_too_narrow_trips_the_audit_of_a_rule_without_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = _Scaled("scaled", "itl")
    problem = _problem(rule, clustered(250, 16, 1).to(torch.float32), normal(5, 16, 2))
    honest = problem.select(20, 3, SMALL)
    assert (picked(honest), honest.stats.precision) == (problem.dense_ids(20), "float64")
    monkeypatch.setattr(ScoreSpec, "band", 1e-20)
    with pytest.raises(NumericalError, match="noise_variance"):
        problem.select(20, 3, SMALL)


def _spoil(monkeypatch: pytest.MonkeyPatch, error: float, precisions: tuple[str, ...]) -> None:
    """Let every shard start from scores that are off by `error` |x|^2, up or down."""
    true_begin = Screen._begin

    def spoilt(self: Screen) -> None:
        true_begin(self)
        if self.spec.precision in precisions:
            for scores in self.tracked:
                scores += error * self._norms * (2 * torch.rand(len(scores), generator=random(1)).round() - 1)

    monkeypatch.setattr(Screen, "_begin", spoilt)


@every_rule
@pytest.mark.parametrize("precision", ["int8", "bfloat16", "float32"])
def test_scores_beyond_what_is_proven_are_noticed(
    rule: Rule, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = _problem(rule, power_law(250, 16, 1).to(torch.float32), normal(5, 16, 2))
    honest = problem.select(20, 3, SMALL, screening=precision)
    assert (honest.stats.escalations, honest.stats.precision) == (0, precision)
    _spoil(monkeypatch, 0.5, (precision,))
    result = problem.select(20, 3, SMALL, screening=precision)
    assert result.stats.escalations == 1
    assert picked(result) == picked(honest) == problem.dense_ids(20)


def test_float64_scores_beyond_what_is_proven_are_an_error_that_names_the_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _spoil(monkeypatch, 0.05, ("float32", "float64"))
    problem = _problem(ITL, clustered(250, 16, 1), normal(5, 16, 2))
    with pytest.raises(NumericalError, match="noise_variance"):
        problem.select(20, 3, SMALL)


@pytest.mark.parametrize("rule", [ITL, ITL_EXACT, VTL, UNCERTAINTY], ids=lambda rule: rule.name)
@pytest.mark.parametrize("start", [5, 12])
def test_an_escalation_in_the_middle(rule: Rule, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that only appear after some picks: the picks made until then stand, nothing held is lost."""
    true_judge = Screen.judge
    calls = 0

    def drifting(self: Screen, kernel: BlockKernel, rows: slice, chunk: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        doubtful = true_judge(self, kernel, rows, chunk)
        if calls > start and self.spec.precision == "float32":
            self.tracked[0][rows] -= 0.01 * self._norms[rows]
        return doubtful

    monkeypatch.setattr(Screen, "judge", drifting)
    problem = _problem(rule, power_law(900, 16, 1).to(torch.float32), normal(5, 16, 2))
    progress: list[int] = []
    selector = problem.selector(3, replace(SMALL, block=3, max_block=3))
    selector._on_progress = lambda told: progress.append(told.stats.escalations)
    result = selector.select(30)
    assert picked(result) == problem.dense_ids(30)
    assert result.stats.escalations == 1
    assert progress[0] == 0


def test_a_long_run_beside_a_large_noise_does_not_drown_in_its_rounding() -> None:
    """Every pass rounds a shard's scores once: next to a noise of 1000 |x|^2 that would add up beyond the band."""
    pool = power_law(200, 6, 1)
    pool /= pool.square().sum(dim=1).mean().sqrt()
    problem = replace(_problem(UNCERTAINTY, pool, pool[:2], noise=1050.0), replacement=True)
    start = problem.selector()._start
    shard = PoolShard(MemoryFeatures(pool), problem.ids, 0)
    shard.start(replace(start, precision="float64"))
    state = problem.selector()._state
    for index in [0, 1, 2] * 700:
        shard.replay(state.columns(pool[index])[:, :, None], 0)
        state = state.condition(pool[index])
    batch = shard.propose(Request(200))
    (screened,), (exact,) = batch.scores, state.scores(batch.features)
    assert bool(((screened - exact).abs() <= 2.0**-51 * (exact + problem.noise)).all())
