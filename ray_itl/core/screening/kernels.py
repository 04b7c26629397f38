"""The arithmetic of verification: one chunk of copied rows against one block of speculated picks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.linalg import unit_roundoff
from ray_itl.core.messages import ScoreSpec
from ray_itl.core.screening.arithmetic import Columns, sum_error
from ray_itl.core.screening.theorem import SPARE_TERMS, form_bounds, linear_bound, product_error


class RowFacts(NamedTuple):
    """What a shard knows of n rows, besides their copies."""

    tracked: Scores
    """Scores of the copies before the block, less their shares of |x|^2: K times n float64."""
    norms: Tensor
    """|x|^2, n float64."""
    error_norms: Tensor
    """E, n float64."""
    units: Tensor | None
    """What products are multiplied by, n float64; None: nothing."""
    costs: Tensor | None
    """n float64; None where every row costs 1."""


class Known(NamedTuple):
    """What holds for all rows of a shard."""

    ratio: float
    """rho (see `RowCopies`)."""
    errors: list[float]
    """How far each tracked score may be off, relative to E, after this block."""
    mean_norm: float
    """Of the rows' |x|^2."""


class Verdict(NamedTuple):
    """What one chunk's pass says."""

    doubtful: Tensor
    """Which rows are not excluded, n bool."""
    lost: Scores
    """What the whole block takes from each tracked score, K times n float64."""


@dataclass(frozen=True)
class BlockKernel(ABC):
    """A block prepared once for many chunks."""

    spec: ScoreSpec
    columns: Columns
    """Of the picks; perhaps none, for rows as they are."""

    @abstractmethod
    def judge(self, drops: Tensor, facts: RowFacts) -> Verdict:
        """Say which rows may beat or tie with some pick at its step.

        Args:
            drops: What the rule's `products_` makes of the products of copies with the columns, n x P x B.
            facts: Of the rows.
        """


def prepare_kernel(spec: ScoreSpec, columns: Columns, values: Tensor, known: Known) -> BlockKernel:
    """Return the kernel of a block.

    Args:
        spec: Of the run.
        columns: What each speculated pick subtracts.
        values: Of the picks, S float64: S = B, or 1 where there are no columns.
        known: Of all rows.
    """
    if not spec.acquisition.is_certified:
        return AuditedKernel(spec, columns, values)
    if spec.screens_linearly:
        return LinearKernel.prepare(spec, columns, values, known)
    return ReachKernel(spec, columns, values, known)


@dataclass(frozen=True)
class LinearKernel(BlockKernel):
    """Where "gains more than g" is linear in the scores: a product, its squares, and a triangular product.

    For a chunk Y (n x D): P = Y W (n x tB), in place P <- decrements (mostly P^2), and the margins of all steps are
    [tracked scores, |x|^2, E, 1] H + P T. Cumulative sums over the steps before k are columns of the triangular T, so
    no logarithm, division or cumulative sum runs per row; K more columns of T add up what the block takes.
    """

    head: Tensor
    """H, (K + 3) x S."""
    tail: Tensor
    """T, (P * B) x (S + K)."""
    factor: float
    """A power of two that all margins are multiplied by, near one over the rows' mean |x|^2: against underflow."""

    @classmethod
    def prepare(cls, spec: ScoreSpec, columns: Columns, values: Tensor, known: Known) -> LinearKernel:
        """Build H and T."""
        acquisition, device = spec.acquisition, columns.right.device
        size, num = columns.num_steps, acquisition.num_products
        # No row can beat a pick that is decided (of infinite value): all zeros, so that no margin is positive.
        open_step = torch.isfinite(values).to(torch.float64)
        linear = acquisition.linear(spec.needed(values.where(open_step > 0, 0.0)))
        assert linear is not None, "another kernel is for rules that are not linear"
        bound = linear_bound(spec, linear, known.ratio, known.errors, known.mean_norm)
        factor = 2.0 ** -round(math.log2(max(known.mean_norm, 2.0**-500)))
        scales = score_scales(spec, columns.scales)
        # Step k is to see a row's scores less what the steps before k take: columns of the strict upper triangle.
        earlier = torch.ones(max(size, 1), len(values), dtype=torch.float64).triu(1)[:size]
        tail = torch.zeros(num, size, len(values) + len(scales), dtype=torch.float64)
        for score, (track, coefficients) in enumerate(zip(acquisition.score_tracks, bound.coefficients, strict=True)):
            tail[track, :, : len(values)] -= earlier * (coefficients * open_step * scales[score])
            tail[track, :, len(values) + score] = scales[score]
        rounding = sum_error(num * size + len(scales) + SPARE_TERMS, unit_roundoff(spec.dtype))
        # What is tracked has a sign, but for its error, so a little more of it covers its own rounding.
        signs = torch.tensor([form.sign for form in spec.quadratics], dtype=torch.float64)[:, None]
        sizes = torch.tensor(_moved(spec, columns), dtype=torch.float64)
        sizes += 2.0 * torch.tensor(known.errors, dtype=torch.float64)
        slack = rounding * (sizes @ bound.coefficients.abs() + bound.norms.abs())
        constants = bound.constants + rounding * bound.constants.abs() + _underflow(size, factor)
        tracked = bound.coefficients + rounding * signs * bound.coefficients.abs()
        head = torch.cat([tracked, bound.norms[None], (bound.errors + slack)[None], constants[None]])
        head, tail = head * open_step * factor, tail.flatten(0, 1)
        if columns.are_floats:
            tail[:, : len(values)] *= factor
        return cls(spec, columns, head.to(device, spec.dtype), tail.to(device, spec.dtype), factor)

    def judge(self, drops: Tensor, facts: RowFacts) -> Verdict:
        """See `BlockKernel`."""
        num = self.head.shape[1]
        ones = torch.ones_like(facts.norms)
        state = torch.stack([*facts.tracked, facts.norms, facts.error_norms, ones], dim=1).to(self.head.dtype)
        margins, lost = state @ self.head, tuple(torch.zeros_like(score) for score in facts.tracked)
        if self.columns.num_steps:
            found = drops.flatten(1) @ self.tail
            taken = found[:, num:].to(torch.float64)
            if facts.units is None:
                margins += found[:, :num]
            else:
                squares = facts.units.square()
                margins.addcmul_(found[:, :num], (self.factor * squares).to(found.dtype)[:, None])
                taken *= squares[:, None]
            lost = tuple(taken.unbind(dim=1))
        # Not "above 0": a margin that is no number excludes nothing.
        return Verdict(~(margins.amax(dim=1) <= 0), lost)


@dataclass(frozen=True)
class ReachKernel(BlockKernel):
    """Any rule with forms, and rows of different prices: the most that every row may gain, against what it needs."""

    values: Tensor
    """S float64."""
    known: Known

    def judge(self, drops: Tensor, facts: RowFacts) -> Verdict:
        """See `BlockKernel`. In float64: logarithms of few columns."""
        spec, known = self.spec, self.known
        at_step, lost = _along(self, drops, facts, len(self.values))
        lower, upper = form_bounds(spec, at_step, facts.error_norms[:, None], known.ratio, known.errors)
        reach = spec.acquisition.reach(facts.norms[:, None], lower, upper)
        needed = _needed(spec, self.values, facts)
        return Verdict(~(reach < needed).all(dim=1), lost)


@dataclass(frozen=True)
class AuditedKernel(BlockKernel):
    """A rule that tells nothing of its forms: its gain, and by how much that may be off if each score is by the band.

    The band is that of rounding in float64; what else may be wrong with a rule's products the driver audits.
    """

    values: Tensor
    """S float64."""

    def judge(self, drops: Tensor, facts: RowFacts) -> Verdict:
        """See `BlockKernel`."""
        spec = self.spec
        at_step, lost = _along(self, drops, facts, len(self.values))
        scores = tuple(
            score + form.scale * facts.norms[:, None] for score, form in zip(at_step, spec.quadratics, strict=True)
        )
        errors = tuple(spec.band * magnitude * facts.norms[:, None] for magnitude in spec.magnitudes)
        reach = torch.add(*spec.acquisition.bounded_gain(scores, errors))
        return Verdict(~(reach < _needed(spec, self.values, facts)).all(dim=1), lost)


def _along(kernel: BlockKernel, drops: Tensor, facts: RowFacts, num_values: int) -> tuple[list[Tensor], Scores]:
    """Return the tracked scores before each step (K times n x S float64), and what the whole block takes."""
    acquisition, scales = kernel.spec.acquisition, score_scales(kernel.spec, kernel.columns.scales)
    if not kernel.columns.num_steps:
        return [score[:, None] for score in facts.tracked], tuple(torch.zeros_like(score) for score in facts.tracked)
    drops = drops.to(torch.float64)
    if facts.units is not None:
        drops = drops * facts.units.square()[:, None, None]
    sums = drops.cumsum(dim=2)
    before = (sums - drops)[:, :, :num_values]
    tracks = [*zip(acquisition.score_tracks, scales.tolist(), strict=True)]
    at_step = [
        score[:, None] - scale * before[:, track] for score, (track, scale) in zip(facts.tracked, tracks, strict=True)
    ]
    return at_step, tuple(scale * sums[:, track, -1] for track, scale in tracks)


def _needed(spec: ScoreSpec, values: Tensor, facts: RowFacts) -> Tensor:
    """Return the gains that rows need at each step: 1 or n x S."""
    values = values.to(facts.norms.device)
    if facts.costs is None or spec.rules is None or not spec.rules.per_cost:
        return spec.needed(values)[None]
    return spec.needed(values[None], facts.costs[:, None])


def score_scales(spec: ScoreSpec, scales: Tensor) -> Tensor:
    """Return by what each score multiplies its track's decrements, given the scales of the tracks' products: K."""
    found = []
    for product in spec.acquisition.step_products:
        left, right = (next(track for track, weight in enumerate(side) if weight) for side in product)
        found.append(scales[left] * scales[right])
    return torch.stack(found)


def _moved(spec: ScoreSpec, columns: Columns) -> list[float]:
    """Return for each score how large the terms of what a block takes may be at |y| = 1."""
    return [
        product_error(product, columns.norms, columns.gaps, rounding=1.0) for product in spec.acquisition.step_products
    ]


def _underflow(num_steps: int, factor: float) -> float:
    """Return what squares below the smallest number of float32 may add up to."""
    return (num_steps + SPARE_TERMS) * 2.0**-120 * max(1.0, 1.0 / factor)
