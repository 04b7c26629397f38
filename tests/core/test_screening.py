"""No row is excluded that beats a pick: the theorem, what errors add up to, and adversarial rows, on every rung."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core import greedy
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import PRECISIONS, Precision, ScoreSpec
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.screening import speed
from ray_itl.core.screening.arithmetic import Columns, FloatArithmetic, IntegerArithmetic, spectral_bound, sum_error
from ray_itl.core.screening.screen import Screen, copy_rows
from ray_itl.core.screening.theorem import Tally, linear_bound
from ray_itl.core.shard import PoolShard
from tests.core.adversarial import DIM, NUM_ROWS, TASKS, rows_of_a_kind, state_of
from tests.core.helpers import (
    RULES,
    SMALL,
    Problem,
    Rule,
    clustered,
    few_examples,
    normal,
    picked,
    power_law,
    random,
    shuffled_ids,
)
from tests.user_rules import Renamed, Scaled

every_precision = pytest.mark.parametrize("precision", PRECISIONS)
PICKS = 6


@given(
    name=st.sampled_from(sorted(TASKS)),
    rows=rows_of_a_kind,
    precision=st.sampled_from(PRECISIONS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    noise=st.sampled_from([1.0, 0.03, 1e-3]),
    seed=st.integers(0, 1000),
)
def test_no_row_is_excluded_that_gains_as_much(
    name: str, rows: Tensor, precision: Precision, dtype: torch.dtype, noise: float, seed: int
) -> None:
    """Against gains in float64 of every row at every step, for values just below, at and above these gains."""
    rule, num_tasks = TASKS[name]
    rows = rows.to(dtype)
    exact = rows.to(torch.float64)
    norms = squared_norms(rows)
    scale = float(norms.mean().sqrt())
    rule = replace(rule, noise_variance=noise * scale**2)
    state = state_of(rule, num_tasks, exact[:2], scale, seed)
    features = MemoryFeatures(rows)
    spec = ScoreSpec.of(rule, state, precision)
    screen = Screen(spec, copy_rows(features, precision, norms), norms, None)
    generator = np.random.default_rng(seed)
    for block in range(3):
        gains, columns, states = [], [], [state]
        for _ in range(PICKS):
            gains.append(rule.gain(states[-1].scores(exact)))
            pick = exact[int(generator.integers(NUM_ROWS))]
            columns.append(states[-1].columns(pick))
            states.append(states[-1].condition(pick))
        at_step = torch.stack(gains, dim=1)
        values = at_step.topk(3, dim=0).values[int(generator.integers(3))]
        prepared = screen.columns(torch.stack(columns, dim=2))
        screen.count(prepared)
        kernel = screen.kernel(prepared, values)
        doubtful = torch.cat([screen.judge(kernel, *chunk) for chunk in screen.chunks()])
        wins = (at_step >= values).any(dim=1)
        assert not bool((wins & ~doubtful).any()), (block, rows[wins & ~doubtful])
        accepted = int(generator.integers(PICKS + 1))
        if accepted < PICKS:
            rejected = prepared.after(accepted)
            screen.count(rejected, again=True)
            for chunk in screen.chunks():
                screen.subtract(rejected, *chunk, -1.0)
        state = states[accepted]
        assert screen.holds(torch.arange(NUM_ROWS), state.scores(exact))


@given(rows=rows_of_a_kind, precision=st.sampled_from(PRECISIONS), seed=st.integers(0, 1000))
def test_a_form_of_a_copy_is_as_near_as_the_theorem_says(rows: Tensor, precision: Precision, seed: int) -> None:
    norms = squared_norms(rows)
    copies = copy_rows(MemoryFeatures(rows), precision, norms)
    every = slice(0, len(rows))
    chunk = torch.cat([chunk for _, chunk in copies.chunks()]).to(torch.float64)
    units = copies.units(every)
    if units is not None:
        assert isinstance(copies.arithmetic, IntegerArithmetic)
        claimed = torch.isfinite(units)
        chunk = chunk[:, :DIM] * copies.arithmetic.coordinate_scales * units.where(claimed, 0.0)[:, None]
    residuals = (chunk - rows).norm(dim=1)
    bound = copies.error_norms(every, norms)
    assert bool((residuals <= copies.ratio * bound.sqrt() * (1 + 1e-12)).all())
    assert bool((norms <= bound * (1 + 1e-12)).all())
    assert bool((chunk.square().sum(dim=1) <= bound * (1 + 1e-12)).all())
    factor = normal(DIM, 5, seed)
    form, copied = (rows @ factor).norm(dim=1), (chunk @ factor).norm(dim=1)
    assert bool(((form - copied).abs() <= spectral_bound(factor) * copies.ratio * bound.sqrt() * (1 + 1e-9)).all())


@given(
    kind=st.sampled_from(["float32", "float64", "int8"]),
    dim=st.integers(1, 40),
    steps=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    spread=st.integers(0, 8),
)
def test_products_are_as_near_as_their_gaps_say(kind: str, dim: int, steps: int, seed: int, spread: int) -> None:
    columns = normal(dim, 2 * steps, seed).view(dim, 2, steps) * 10.0 ** -torch.arange(2)[:, None]
    columns *= 10.0 ** -(spread * torch.rand(dim, 1, 1, generator=random(seed), dtype=torch.float64))
    arithmetic = (
        FloatArithmetic(getattr(torch, kind))
        if kind != "int8"
        else IntegerArithmetic(torch.rand(dim, generator=random(seed), dtype=torch.float64) + 0.1)
    )
    prepared = arithmetic.columns(columns, torch.device("cpu"))
    rows, true = _copied(arithmetic, 50, dim, seed)
    found = arithmetic.products(rows, prepared).to(torch.float64) * prepared.scales[:, None]
    wanted = (true @ columns.flatten(1)).view(50, 2, steps)
    for track in range(2):
        off = (found[:, track] - wanted[:, track]).norm(dim=1)
        assert bool((off <= prepared.gaps[track] * true.norm(dim=1) + 1e-300).all())
        assert prepared.norms[track] >= float(torch.linalg.matrix_norm(columns[:, track], 2)) * (1 - 1e-12)


def _copied(
    arithmetic: FloatArithmetic | IntegerArithmetic, num_rows: int, dim: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Rows as the arithmetic takes them, and what they stand for."""
    if isinstance(arithmetic, IntegerArithmetic):
        rows = torch.randint(-127, 128, (num_rows, -(-dim // 8) * 8), generator=random(seed), dtype=torch.int8)
        rows[:, dim:] = 0
        return rows, rows[:, :dim].to(torch.float64) * arithmetic.coordinate_scales
    rows = normal(num_rows, dim, seed + 1).to(arithmetic.dtype)
    return rows, rows.to(torch.float64)


@pytest.mark.parametrize("dim", [127, 128, 129, 1000])
def test_long_rows_are_added_up_in_parts(dim: int) -> None:
    """Rows of equal entries, whose sums in one go would be off by more than the parts' bound."""
    arithmetic = FloatArithmetic(torch.float32)
    columns = torch.full((dim, 1, 1), 0.1, dtype=torch.float64)
    prepared = arithmetic.columns(columns, torch.device("cpu"))
    rows = torch.full((3, dim), 1.0 / 3.0)
    off = arithmetic.products(rows, prepared).to(torch.float64).flatten() - (rows.to(torch.float64) @ columns.flatten())
    bound = (
        sum_error(128 + -(-dim // 128) + 1, 2.0**-24) * float(rows[0].to(torch.float64).norm() * columns.norm()) * 1.01
    )
    assert bool((off.abs() <= prepared.gaps[0] * rows[0].to(torch.float64).norm()).all())
    assert prepared.gaps[0] * float(rows[0].to(torch.float64).norm()) <= bound


@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 5), gap=st.sampled_from([1e-2, 1e-5]))
def test_errors_add_up_to_no_more_than_the_tally_says(seed: int, blocks: int, gap: float) -> None:
    """Products that are off by as much as they may be, all the worst way, along the worst row."""
    rule, dim, steps = Uncertainty(0.1), 20, 3
    spec = ScoreSpec.of(rule, rule.start(Posterior.prior(dim)), "float32")
    tally = Tally(spec, FloatArithmetic(torch.float64))
    columns = (0.9 * torch.linalg.qr(normal(dim, steps * blocks, seed)).Q).split(steps, dim=1)
    row = torch.nn.functional.normalize(torch.cat(columns, dim=1).sum(dim=1), dim=0)
    off = 0.0
    for part in columns:
        true = row @ part
        wrong = true + gap * true / true.norm()
        off += float(wrong.square().sum() - true.square().sum())
        norm = spectral_bound(part)
        tally.add(Columns(part, 1, steps, torch.ones(1), (norm,), (gap,)))
    assert off <= tally.errors()[0] <= 3 * off  # and not by far


@pytest.mark.parametrize("name", ["itl", "itl-tasks", "vtl", "vtl-tasks"])
@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 4), gap=st.sampled_from([1e-2, 1e-5]), share=st.floats(0, 1))
def test_products_of_several_tracks_are_off_by_no_more_than_the_tally_says(
    name: str, seed: int, blocks: int, gap: float, share: float
) -> None:
    """Every track's products are off by its gap in some direction, and the rule computes what it makes of them."""
    rule, num_tasks = TASKS[name]
    dim, steps, tracks = 12, 3, rule.num_tracks
    tasks = [Targets.uniform(normal(1, dim, seed + t)) for t in range(num_tasks)]
    tally = Tally(
        ScoreSpec.of(rule, rule.start(Posterior.prior(dim), *tasks), "float32"), FloatArithmetic(torch.float64)
    )
    row = torch.nn.functional.normalize(normal(1, dim, seed)[0], dim=0)
    first = share * torch.linalg.qr(normal(dim, steps * blocks, seed)).Q  # what picks remove is at most the prior
    off = [0.0] * rule.num_scores
    for block in range(blocks):
        columns = normal(dim, tracks * steps, seed + 10 + block).view(dim, tracks, steps)
        columns[:, 0] = first[:, steps * block : steps * (block + 1)]
        dots = torch.einsum("d,dts->ts", row, columns)[None]
        wrong = torch.nn.functional.normalize(normal(tracks, steps, seed + 20 + block), dim=1) * gap
        found = rule.decrements(rule.products_(dots + wrong))
        true = rule.decrements(rule.products_(dots.clone()))
        off = [so_far + float((f - t).sum()) for so_far, f, t in zip(off, found, true, strict=True)]
        norms = tuple(spectral_bound(columns[:, track]) for track in range(tracks))
        tally.add(Columns(columns.flatten(1), tracks, steps, torch.ones(tracks), norms, (gap,) * tracks))
    assert all(abs(o) <= error for o, error in zip(off, tally.errors(), strict=True))


@given(
    seed=st.integers(0, 10**6),
    ratio=st.floats(0, 0.3),
    error=st.sampled_from([0.0, 1e-4, 1e-2]),
    name=st.sampled_from(["itl", "vtl", "vtl-tasks", "uncertainty"]),
    gain=st.floats(0, 3),
)
def test_a_linear_bound_is_above_the_worst_row(seed: int, ratio: float, error: float, name: str, gain: float) -> None:
    """Against each form at its worst within the residual, and known only within its error."""
    rule, num_tasks = TASKS[name]
    state = rule.start(Posterior.prior(DIM), *(Targets.uniform(normal(3, DIM, seed + t)) for t in range(num_tasks)))
    spec = ScoreSpec.of(rule, state, "float32")
    forms, largest = torch.tensor(rule.forms, dtype=torch.float64), torch.tensor(spec.form_norms, dtype=torch.float64)
    errors = [error] * rule.num_scores
    linear = rule.linear(torch.tensor([gain], dtype=torch.float64))
    assert linear is not None
    bound = linear_bound(spec, linear, ratio, errors, 1.0)
    scales = torch.tensor([form.scale for form in spec.quadratics], dtype=torch.float64)
    for norm in torch.rand(20, generator=random(seed), dtype=torch.float64).tolist():
        true = torch.rand(len(forms), generator=random(seed + 1), dtype=torch.float64) * largest * norm
        wanted = torch.linalg.solve(forms.mT, linear.coefficients)[:, 0]
        sign = wanted.sign()
        worst = (true.sqrt() + sign * (largest * norm).sqrt() * ratio).clamp_min(0).square()
        margin = wanted @ worst + float(scales @ linear.coefficients[:, 0]) * norm + float(linear.constants[0])
        known = torch.linalg.solve(forms, true) - bound.coefficients[:, 0].sign() * error * norm
        found = bound.coefficients[:, 0] @ known + bound.norms[0] * norm + bound.errors[0] * norm + bound.constants[0]
        assert float(found) >= float(margin) - 1e-9 * (1 + abs(float(margin)))


@given(seed=st.integers(0, 10**6), dim=st.integers(1, 30), steps=st.integers(1, 300))
def test_spectral_bounds_are_bounds(seed: int, dim: int, steps: int) -> None:
    matrix = normal(dim, steps, seed)
    true = float(torch.linalg.matrix_norm(matrix, 2))
    assert true * (1 - 1e-12) <= spectral_bound(matrix)
    assert steps > 256 or spectral_bound(matrix) <= true * (1 + 1e-6)


@every_precision
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@few_examples
@given(rows=rows_of_a_kind, seed=st.integers(0, 1000))
def test_picks_equal_the_dense_reference_on_every_rung(
    rule: Rule, precision: Precision, rows: Tensor, seed: int
) -> None:
    scale = float(squared_norms(rows).mean())
    targets = Targets.uniform(scale**0.5 * normal(4, DIM, seed))
    problem = Problem(rule, rows.to(torch.float32), shuffled_ids(len(rows), seed), targets, 0.1 * scale)
    result = problem.select(12, 2, SMALL, screening=precision)
    assert picked(result) == problem.dense_ids(12)


@every_precision
def test_few_rows_stay_in_doubt(precision: Precision) -> None:
    """As many as there may be rivals, not a share of the pool: of 4,000 rows less than 2% a pass."""
    targets = Targets.uniform(normal(8, 64, 4))
    problem = Problem(RULES[0], power_law(4000, 64, 3).to(torch.float32), shuffled_ids(4000, 1), targets, 1.0)
    result = problem.select(30, 2, SMALL, screening=precision)
    assert (result.stats.precision, result.stats.escalations) == (precision, 0)
    assert result.stats.challengers <= result.stats.doubtful <= 0.02 * 4000 * (result.stats.passes - 1)
    assert result.stats.doubtful > 0


def test_integers_that_leave_too_many_in_doubt_give_way_to_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "_FEW_DOUBTS", 5)
    rows = clustered(2000, 16, 1, spread=0.01).to(torch.float32)
    problem = Problem(RULES[0], rows, shuffled_ids(2000, 1), Targets.uniform(normal(5, 16, 2)), 1e-3)
    result = problem.select(40, 2, SMALL, screening="int8")
    assert result.stats.escalations >= 1
    assert result.stats.precision in ("float32", "float64")
    assert picked(result) == problem.dense_ids(40)


def test_forms_of_a_base_class_are_not_trusted() -> None:
    assert InformationGain(1.0).is_certified
    assert Renamed(1.0).is_certified
    assert not Scaled(1.0).is_certified  # its gain is its own


@pytest.mark.parametrize(
    ("num_rows", "dim", "noise", "fast", "expected"),
    [
        (10**6, 384, 1.0, True, "int8"),
        (10**6, 384, 1.0, False, "float32"),
        (1000, 384, 1.0, True, "float32"),
        (10**6, 8, 1.0, True, "float32"),
        (10**6, 384, 1e-4, True, "float64"),
        (10**6, 384, 2e-3, False, "float32"),
        (10**6, 384, 2e-3, True, "int8"),
    ],
)
def test_what_is_screened_in(
    num_rows: int, dim: int, noise: float, fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "integers_are_fast", lambda: fast)
    assert speed.first_precision(num_rows, dim, noise, 1.0) == expected


def test_rules_say_from_which_noise_few_digits_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "integers_are_fast", lambda: True)
    rows = torch.nn.functional.normalize(torch.randn(20_000, 32, generator=torch.Generator().manual_seed(1)))
    targets = Targets.uniform(rows[:5].double())
    found = {}
    for rule in (InformationGain(0.1), VarianceReduction(0.1), VarianceReduction(1.0)):
        pool = LocalPool([PoolShard(MemoryFeatures(rows), np.arange(len(rows)), 0)])
        selector = GreedySelector(pool, rule, rule.start(Posterior.prior(32), targets))
        selector.select(3)
        found[rule.name, rule.noise_variance] = selector.stats.precision
    assert found == {("itl", 0.1): "int8", ("vtl", 0.1): "float32", ("vtl", 1.0): "int8"}
