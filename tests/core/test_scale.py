"""Units do not decide: rows far above or below the noise are ranked as exact arithmetic ranks them, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from torch import Tensor

from ray_itl.core.posterior import Targets
from ray_itl.errors import NumericalError
from tests.core.helpers import ITL, SMALL, UNCERTAINTY, VTL, Problem, Rule, clustered, normal, picked

Matrix = list[list[Fraction]]


def exact_picks(rows: Tensor, targets: Tensor, n: int, noise: Fraction) -> list[int]:
    """Greedy ITL (eq. 44) in rational numbers, by (x'Sx + s2) / (x'S_A x + s2), which orders as its logarithm does."""
    dim, exact = rows.shape[1], [[Fraction(value) for value in row] for row in rows.tolist()]
    prior = [[Fraction(i == j) for j in range(dim)] for i in range(dim)]
    given = prior
    for row in targets.tolist():
        given = _observed(given, [Fraction(value) for value in row], noise)
    picks: list[int] = []
    for _ in range(n):
        left = [index for index in range(len(exact)) if index not in picks]
        ratios = {i: (_form(prior, exact[i]) + noise) / (_form(given, exact[i]) + noise) for i in left}
        picks.append(min(left, key=lambda index: (-ratios[index], index)))
        prior, given = (_observed(each, exact[picks[-1]], noise) for each in (prior, given))
    return picks


def _form(covariance: Matrix, row: Sequence[Fraction]) -> Fraction:
    return sum(
        (a * b * s for a, line in zip(row, covariance, strict=True) for b, s in zip(row, line, strict=True)), Fraction()
    )


def _observed(covariance: Matrix, row: Sequence[Fraction], noise: Fraction) -> Matrix:
    seen = [sum((s * x for s, x in zip(line, row, strict=True)), Fraction()) for line in covariance]
    scale = sum((s * x for s, x in zip(seen, row, strict=True)), Fraction()) + noise
    return [
        [value - a * b / scale for value, b in zip(line, seen, strict=True)]
        for line, a in zip(covariance, seen, strict=True)
    ]


def quarters(num_rows: int, dim: int, seed: int) -> Tensor:
    """Rows of quarters: exact in any number format."""
    return (4 * normal(num_rows, dim, seed)).round().clamp(-16, 16) / 4


@pytest.mark.parametrize("exponent", [-80, -60, -30, -10, 0, 10, 20, 30])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_picks_are_those_of_rational_arithmetic_whatever_the_noise(exponent: int, num_shards: int) -> None:
    rows, targets, noise = quarters(60, 4, 1), quarters(4, 4, 2), 2.0**exponent
    problem = Problem(ITL, rows, np.arange(60), Targets.uniform(targets), noise=noise)
    assert picked(problem.select(10, num_shards, SMALL)) == exact_picks(rows, targets, 10, Fraction(noise))


@pytest.mark.parametrize("rule", [ITL, VTL, UNCERTAINTY], ids=lambda rule: rule.name)
@pytest.mark.parametrize("exponent", [-40, -13, 13, 40])
def test_in_other_units_the_same_rows_are_picked(rule: Rule, exponent: int) -> None:
    """Rows times 2^k and noise times 4^k is the same problem to the last digit."""
    rows, targets = clustered(400, 16, 1), normal(6, 16, 2)
    problem = Problem(rule, rows, np.arange(400), Targets.uniform(targets), noise=0.5)
    scale = 2.0**exponent
    scaled = replace(problem, pool=rows * scale, targets=Targets.uniform(targets * scale), noise=0.5 * scale**2)
    first, second = problem.select(30, 2, SMALL), scaled.select(30, 2, SMALL)
    assert picked(first) == picked(second) == problem.dense_ids(30)


@pytest.mark.parametrize(("exponent", "remedy"), [(-90, "raise acquisition"), (40, "lower acquisition")])
def test_noise_beyond_what_float64_resolves_is_refused(exponent: int, remedy: str) -> None:
    problem = Problem(ITL, quarters(60, 4, 1), np.arange(60), Targets.uniform(quarters(4, 4, 2)), noise=2.0**exponent)
    with pytest.raises(NumericalError, match=remedy):
        problem.select(10, 1, SMALL)
