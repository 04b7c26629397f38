"""The total order of the exactness contract: gain descending, then row id ascending.

Gains closer than the tie width (1e-9 of the largest plus 1e-12 of the gain scale) count as equal: the pick is the row
of the smallest id among those within the tie width of the largest gain. Equal rows then tie whatever the order in
which a processor added up their products, and the pick is the same on every shard plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState, Scores, tie_width

ROUNDING = 256 * 2.0**-52
"""Of scores that are exact, relative to |x|^2 times their magnitude."""


def gain_scale(acquisition: Acquisition, state: AcquisitionState, mean_squared_norm: float) -> float:
    """Return the size of gain beside which 1e-12 is nothing: that of the state times m / (m + s2).

    A gain is at most of that size for a row of the mean squared norm m, so rows are told apart by the same digits in
    whatever units embeddings are.

    Args:
        acquisition: The rule, of noise variance s2.
        state: Its state before the first pick.
        mean_squared_norm: m, the mean |x|^2 of the pool.
    """
    share = mean_squared_norm / (mean_squared_norm + acquisition.noise_variance)
    return state.gain_scale * (share or 1.0)  # rows that are all zero have no size


class Winner(NamedTuple):
    """The winning row: its place among those asked about, and its exact gain."""

    place: int
    gain: float


class Contenders(NamedTuple):
    """k rows that compete for a pick."""

    features: Tensor
    """k x D float64."""
    ids: np.ndarray
    """k row ids."""
    scores: Scores
    """Incremental scores, k each, off by at most rounding."""
    norms: Tensor
    """|x|^2, which rounding is proportional to."""
    prices: Tensor
    """What gains are divided by, k float64."""
    may_win: Tensor
    """k bool; at least one."""


@dataclass(frozen=True)
class TotalOrder:
    """Decides between rows whose scores are known to float64 rounding, rescoring those that are too close.

    Rows compete by value: their gain, or their gain over their price. Whether one ties with the best is decided in
    units of gain: by what it would need to gain, at its price, to be of the best value.
    """

    acquisition: Acquisition
    magnitudes: tuple[float, ...]
    """Bounds on the scores at |x| = 1."""
    gain_scale: float
    """See `gain_scale`."""

    def best(self, state: AcquisitionState, contenders: Contenders) -> Winner:
        """Return the first row in the total order.

        Args:
            state: The rule's state at this step.
            contenders: k rows, of which at least one may win.

        Returns:
            The winner. O(k), and O(D r) for each row too close to call.
        """
        # Only rows that rounding cannot separate from the best are scored anew, at O(D r) each.
        near = self.near(contenders.scores, contenders.norms, contenders.prices, contenders.may_win)
        if len(near) == 1:  # as it mostly is; what follows would take as long as what came before
            only = int(near)
            return Winner(only, float(self.gains(state.scores(contenders.features[only : only + 1]))))
        exact, prices = self.gains(state.scores(contenders.features[near])), contenders.prices[near]
        best = float((exact / prices).max())
        tied = exact >= self.floor(best, prices)
        winner = int(near[tied][int(np.argsort(contenders.ids[near[tied].numpy()], kind="stable")[0])])
        return Winner(winner, float(exact[near == winner][0]))

    def near(self, scores: Scores, norms: Tensor, prices: Tensor, may_win: Tensor) -> Tensor:
        """Return the places of the rows that may be the first or tie with it, for all that rounding tells (see `best`).

        Args:
            scores: Incremental, k each.
            norms: |x|^2, k.
            prices: k.
            may_win: k bool; at least one.
        """
        gains, errors = self.bounded_gains(scores, norms)
        certain = float(((gains - errors) / prices)[may_win].max())
        return torch.nonzero((gains + errors >= self.floor(certain, prices)) & may_win).flatten()

    def surely(self, scores: Scores, norms: Tensor, prices: Tensor) -> float:
        """Return a value that one of these rows reaches for sure (see `near`); -inf where rounding tells nothing."""
        gains, errors = self.bounded_gains(scores, norms)
        return float(((gains - errors) / prices).max())

    def may_beat(self, scores: Scores, decrements: Scores, norms: Tensor, prices: Tensor, values: Tensor) -> Tensor:
        """Return which of k rows may beat picks of some values, or tie with one: k x b bool.

        Args:
            scores: Incremental, before the first of the picks, k each.
            decrements: What each pick subtracts from them, k x b each.
            norms: |x|^2, k.
            prices: k.
            values: Of the picks, b.
        """
        linear = self.acquisition.linear(self._needed(values)) if bool((prices == 1).all()) else None
        if linear is None:
            before = tuple(s[:, None] - (d.cumsum(dim=1) - d) for s, d in zip(scores, decrements, strict=True))
            return torch.add(*self.bounded_gains(before, norms[:, None])) >= self._needed(values * prices[:, None])
        # All steps at once: what picks before a step subtract is a product with columns of a strict upper triangle.
        earlier = torch.ones(len(values), len(values), dtype=torch.float64).triu(1)
        rounding = ROUNDING * (torch.tensor(self.magnitudes, dtype=torch.float64) @ linear.coefficients.abs())
        margins = torch.addr(linear.constants.expand(len(norms), -1), norms, rounding)
        for score, decrement, coefficients in zip(scores, decrements, linear.coefficients, strict=True):
            margins.addr_(score, coefficients).addmm_(decrement, earlier * -coefficients)
        return margins >= 0

    def decrements(self, dots: Tensor) -> Scores:
        """Turn dot products (k x num_tracks x B, overwritten) into what each step subtracts (K times k x B)."""
        return self.acquisition.decrements(self.acquisition.products_(dots))

    def gains(self, scores: Scores) -> Tensor:
        """Return gains."""
        return self.acquisition.gain(scores)

    def bounded_gains(self, scores: Scores, norms: Tensor) -> tuple[Tensor, Tensor]:
        """Return incremental gains and by how much each may be off: a row of small scores is by more than the best.

        Args:
            scores: Incremental scores, K tensors of one shape.
            norms: |x|^2 of the rows, of a shape that fits the scores'.
        """
        rounding = ROUNDING * norms
        return self.acquisition.bounded_gain(scores, tuple(rounding * magnitude for magnitude in self.magnitudes))

    def floor(self, value: float | Tensor, prices: Tensor) -> Tensor:
        """Return the gains from which rows of some prices tie with a value (or with values of a shape that fits)."""
        gains = value * prices
        return gains - tie_width(gains, self.gain_scale)

    def _needed(self, gains: Tensor) -> Tensor:
        """Return gains below which no row ties with a pick of some gains, nor with one that ties with the pick."""
        return gains - 2 * tie_width(gains, self.gain_scale)
