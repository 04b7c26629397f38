"""How far what a shard knows of a row's forms, from its copy, may be from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, Linear, Scores, StepProduct
from ray_itl.core.messages import ScoreSpec
from ray_itl.core.screening.arithmetic import Arithmetic, Columns, sum_error

SPARE_TERMS = 16
_TINY = 2.0**-126


class Tally:
    """What all columns so far add to the errors of a shard's tracked scores.

    A tracked score is a sum over steps of products p_a p_b with two columns. With gaps g_k of the steps' products
    (`Columns.gaps`) and by Cauchy and Schwarz over some of the steps, their sum is off by at most

        A g_b + g_a B + g_a g_b,    A^2 = sum_k p_a^2 / |y|^2, g_a^2 = sum_k of the gaps' squares,

    times |y|^2, and by the rounding of sums. Taken over all steps at once, A is at most 1, that of the prior, for a
    track whose squares are what picks remove from a covariance, however many picks there are: so errors grow with the
    root of the number of blocks. Taken block by block and added up, what late picks take is not held against the gaps
    of early ones. The smaller of the two counts.
    """

    def __init__(self, spec: ScoreSpec, arithmetic: Arithmetic) -> None:
        """Begin before any product."""
        tracks = spec.acquisition.num_tracks
        self._products = spec.acquisition.step_products
        self._bounded = {product.square_of for product in self._products}
        self._acquisition = spec.acquisition
        self._unit = arithmetic.unit
        self._start, self._by_block = [0.0] * len(self._products), [0.0] * len(self._products)
        self._sizes, self._repeated, self._gaps = [0.0] * tracks, [0.0] * tracks, [0.0] * tracks
        self._rounding = 0.0

    def began(self, score: int, factor: Columns) -> None:
        """Add the factor that a score starts from."""
        size, gap = factor.norms[0], factor.gaps[0]
        rounding = sum_error(factor.num_steps + SPARE_TERMS, self._unit)
        self._start[score] = 2 * size * gap + gap**2 + rounding * (size + gap) ** 2

    def add(self, columns: Columns, again: bool = False) -> None:
        """Add a block's columns; `again` where they were added before, and are now taken back."""
        for track, (size, gap) in enumerate(zip(columns.norms, columns.gaps, strict=True)):
            self._gaps[track] += gap**2
            if again:
                self._repeated[track] += 2 * size**2
            else:
                self._sizes[track] += size**2
        self._rounding = max(self._rounding, _block_rounding(self._acquisition, columns, self._unit))
        for score, error in enumerate(block_errors(self._acquisition, columns, self._unit)):
            self._by_block[score] += error

    def errors(self) -> list[float]:
        """Return for each score how far it may be off, relative to |y|^2."""
        sizes = [
            ((min(size, 1.0) if track in self._bounded else size) + self._repeated[track]) ** 0.5
            for track, size in enumerate(self._sizes)
        ]
        gaps = [gap**0.5 for gap in self._gaps]
        at_once = (product_error(product, sizes, gaps, self._rounding) for product in self._products)
        return [
            start + min(off, summed) for start, off, summed in zip(self._start, at_once, self._by_block, strict=True)
        ]


def block_errors(acquisition: Acquisition, columns: Columns, unit: float) -> list[float]:
    """Return for each score how far what a block takes may be off, relative to |y|^2, in a type of some unit."""
    rounding = _block_rounding(acquisition, columns, unit)
    return [product_error(product, columns.norms, columns.gaps, rounding) for product in acquisition.step_products]


def _block_rounding(acquisition: Acquisition, columns: Columns, unit: float) -> float:
    return sum_error(acquisition.num_products * columns.num_steps + SPARE_TERMS, unit)


def product_error(product: StepProduct, sizes: Sequence[float], gaps: Sequence[float], rounding: float) -> float:
    """Return how far a sum over steps of products may be off, relative to |y|^2, of which each track's part is known.

    Args:
        product: Of tracks.
        sizes: Of each track, a bound on the norm of its products at |y| = 1.
        gaps: Of each track, how far these are off.
        rounding: Of the sum, relative to its terms' sizes.
    """
    (left, left_gap), (right, right_gap) = ((_weighted(side, sizes), _weighted(side, gaps)) for side in product)
    off = left * right_gap + left_gap * right + left_gap * right_gap
    return off + rounding * (left + left_gap) * (right + right_gap)


def _weighted(weights: Sequence[float], sizes: Sequence[float]) -> float:
    return sum(abs(weight) * size for weight, size in zip(weights, sizes, strict=True))


def form_bounds(
    spec: ScoreSpec, tracked: Sequence[Tensor], error_norms: Tensor, ratio: float, errors: Sequence[float]
) -> tuple[Scores, Scores]:
    """Return what each form of rows is at least, and at most, by what is tracked of their copies.

    Args:
        spec: Of the run.
        tracked: Scores of the copies, K tensors of one shape.
        error_norms: E of the rows.
        ratio: rho: rows are within rho sqrt(E) of their copies.
        errors: How far each tracked score may be off, relative to E.
    """
    lower, upper = [], []
    for weights, largest in zip(spec.acquisition.forms, spec.form_norms, strict=True):
        seen = torch.stack([w * score for w, score in zip(weights, tracked, strict=True)]).sum(dim=0)
        off = sum(abs(w) * e for w, e in zip(weights, errors, strict=True)) * error_norms
        residual = largest**0.5 * ratio * error_norms.sqrt()
        upper.append(((seen + off).clamp_min(0).sqrt() + residual).square())
        lower.append(((seen - off).clamp_min(0).sqrt() - residual).clamp_min(0).square())
    return tuple(lower), tuple(upper)


class LinearBound(NamedTuple):
    """sum_i coefficients[i] e_i + norms |x|^2 + errors E + constants > 0 wherever a row may gain more than asked.

    e_i are the tracked scores of the row's copy, E its error norm.
    """

    coefficients: Tensor
    """K x S float64."""
    norms: Tensor
    """S float64."""
    errors: Tensor
    """S float64."""
    constants: Tensor
    """S float64."""


def linear_bound(spec: ScoreSpec, linear: Linear, ratio: float, errors: list[float], mean_norm: float) -> LinearBound:
    """Return the condition on a copy that follows from a linear one on its row.

    In forms f_j >= 0 of largest eigenvalue l_j the row's condition reads sum_j a_j f_j(x) + b |x|^2 + c > 0. By the
    theorem, sqrt(f_j(x)) is within rho sqrt(l_j E) of sqrt(f_j(y)), and 2 sqrt(f E) <= t f + E / t for every t > 0. So

        a f(x) <= a f(y) + |a| sqrt(l) rho (t f(y) + E / t) + max(a, 0) l rho^2 E,

    and the sum is known within the tracked scores' errors times E. t is chosen near the threshold, where it is tight.

    Args:
        spec: Of the run.
        linear: The condition on the row's own scores.
        ratio: rho.
        errors: Of the tracked scores (`Tally.errors`).
        mean_norm: Of the rows' |x|^2: for t, which may be anything.
    """
    forms = torch.tensor(spec.acquisition.forms, dtype=torch.float64)
    scales = torch.tensor([form.scale for form in spec.quadratics], dtype=torch.float64)
    largest = torch.tensor(spec.form_norms, dtype=torch.float64)[:, None]
    a = torch.linalg.solve(forms.mT, linear.coefficients)
    norms = scales @ linear.coefficients
    threshold = (norms.abs() * (0.5 * mean_norm) + linear.constants.abs()) / a.abs().clamp_min(_TINY)
    threshold = torch.minimum(threshold, largest * mean_norm).clamp_min(1e-12 * mean_norm + _TINY)
    t = ((mean_norm + _TINY) / threshold).sqrt()
    root = largest.sqrt() * ratio
    coefficients = a + a.abs() * root * t
    band = (a.abs() * root / t + a.clamp_min(0) * largest * ratio**2).sum(dim=0)
    of_scores = forms.mT @ coefficients
    band = band + torch.tensor(errors, dtype=torch.float64) @ of_scores.abs()
    return LinearBound(of_scores, norms, band, linear.constants)
