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
        gains = self.gains(scores)
        top = int(gains.argmax())
        width = self.width(float(gains[top]), Scores(scores.num[top], scores.den[top]), norms, state)
        near = torch.nonzero(gains >= gains[top] - width).flatten()
        exact = self.gains(state.scores(features[near]))
        best = float(exact.max())
        tied = near[exact >= best - self.acquisition.tie_width(best, state.gain_scale)]
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

    def width(self, gain: float, scores: Scores, norms: Tensor, state: AcquisitionState) -> float:
        """Return the difference of incremental gains below which rows must be rescored."""
        error = _ROUNDING * float(norms.max())
        rounding = self.acquisition.gain_error(scores, error * self.num_magnitude, error * self.den_magnitude)
        return 2 * self.acquisition.tie_width(gain, state.gain_scale) + 2 * rounding
