"""The total order of the exactness contract: gain descending, then row id ascending.

Gains closer than the tie width (1e-9 relative plus 1e-12 of the gain scale) count as equal: the pick is the row of
the smallest id among those within the tie width of the largest gain. Equal rows then tie whatever the order in
which a processor added up their products, and the pick is the same on every shard plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition, AcquisitionState, Scores

_ROUNDING = 256 * 2.0**-52


class Best(NamedTuple):
    """The winning row: its place among those asked about, and its exact gain."""

    place: int
    gain: float


@dataclass(frozen=True)
class Judge:
    """Decides between rows whose scores are known to float64 rounding, rescoring those that are too close."""

    acquisition: Acquisition
    num_magnitude: float
    den_magnitude: float

    def best(self, state: AcquisitionState, features: Tensor, ids: np.ndarray, scores: Scores, norms: Tensor) -> Best:
        """Return the first row in the total order.

        Args:
            state: The state at this step, for exact rescoring.
            features: k x D float64, k >= 1; a row that may not win has a -inf numerator.
            ids: k row ids.
            scores: k incremental scores, off by at most rounding.
            norms: k squared norms, which rounding is proportional to.
        """
        gains, errors = self.gains(scores), self.errors(scores, norms)
        certain = float((gains - errors).max())
        near = torch.nonzero(gains + errors >= self.floor(certain, state)).flatten()
        exact = self.gains(state.scores(features[near]))
        best = float(exact.max())
        tied = near[exact >= self.floor(best, state)]
        winner = int(tied[int(np.argsort(ids[tied.numpy()], kind="stable")[0])])
        return Best(winner, float(exact[near == winner][0]))

    def decrements(self, dots: Tensor) -> Scores:
        """Turn dot products (k x num_tracks x B, overwritten) into what each step subtracts (k x B each)."""
        dnum, dden = self.acquisition.split(self.acquisition.products_(dots))
        return Scores(dnum, torch.zeros_like(dnum) if dden is None else dden)

    def threshold(self, gain: float, state: AcquisitionState) -> float:
        """Return the ratio below which a row neither beats nor ties a pick of this gain."""
        return self.acquisition.threshold(gain - 2 * self.acquisition.tie_width(gain, state.gain_scale))

    def gains(self, scores: Scores) -> Tensor:
        """Return gains, -inf where the numerator is -inf."""
        gains = self.acquisition.gain(Scores(scores.num.clamp_min(0), scores.den))
        return gains.masked_fill(torch.isneginf(scores.num), float("-inf"))

    def errors(self, scores: Scores, norms: Tensor) -> Tensor:
        """Return by how much each incremental gain may be off: a row of small scores is off by more than the best."""
        rounding = _ROUNDING * norms
        held = Scores(scores.num.clamp_min(0), scores.den)
        errors = self.acquisition.gain_error(held, rounding * self.num_magnitude, rounding * self.den_magnitude)
        return errors.masked_fill(torch.isneginf(scores.num), 0.0)

    def floor(self, best: float, state: AcquisitionState) -> float:
        """Return the gain from which a row ties with the best."""
        return best - self.acquisition.tie_width(best, state.gain_scale)
