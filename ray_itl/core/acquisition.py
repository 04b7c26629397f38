"""What an acquisition is to the engine: a ratio num/den of two numbers per row that only ever shrink by products.

Every sequential acquisition here has, for each pool row x, the gain g(num(x) / den(x)) with g increasing. Picking
y turns into at most two D-vectors ("columns", one per track), and with p_t = x . column_t

    num <- num - dnum(p),  den <- den - dden(p),

where dnum and dden are products of the p_t. A row beats a threshold tau on the ratio exactly if num - tau den > 0,
which stays linear in the decrements of a whole block of picks: that is what makes verification one matrix product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ray_itl.core.posterior import Posterior, Targets


class Scores(NamedTuple):
    """Numerator and denominator of every row, N float64 each."""

    num: Tensor
    den: Tensor


class Quadratic(NamedTuple):
    """The function x -> scale |x|^2 + sign |x F|^2 + offset, by which a shard starts from its own rows."""

    scale: float
    sign: float
    factor: Tensor
    """F, D x r float64; r may be 0."""
    offset: float

    @property
    def magnitude(self) -> float:
        """A bound on the function's terms at |x| = 1: what its rounding errors are proportional to."""
        norm = float(torch.linalg.matrix_norm(self.factor, 2)) if self.factor.shape[1] else 0.0
        return abs(self.scale) + norm**2


class AcquisitionState(ABC):
    """Everything known after some picks; immutable."""

    @abstractmethod
    def scores(self, rows: Tensor) -> Scores:
        """Return the exact scores of rows (N x D float64) given the picks so far. O(N D^2)."""

    @abstractmethod
    def columns(self, row: Tensor) -> Tensor:
        """Return the D x num_tracks vectors by which every row's scores change if `row` (D) is picked. O(D^2)."""

    @abstractmethod
    def condition(self, row: Tensor) -> AcquisitionState:
        """Return the state after picking `row` (D). O(D^2)."""

    @abstractmethod
    def quadratics(self) -> tuple[Quadratic, Quadratic]:
        """Return num and den as functions of a row, for the shards. O(D^3), once per run."""

    @property
    @abstractmethod
    def posterior(self) -> Posterior:
        """The weight posterior given the picks (not the targets)."""

    @property
    def gain_scale(self) -> float:
        """The size of gain beside which 1e-12 is nothing: 1 nat, or all the targets' variance."""
        return 1.0


@dataclass(frozen=True)
class Acquisition(ABC):
    """A sequential acquisition rule. Instances are small and travel to every shard."""

    noise_variance: float
    """rho^2: variance of the observation noise on a picked row, > 0."""

    name: ClassVar[str]
    unit: ClassVar[str] = "nats"
    num_tracks: ClassVar[int] = 2
    num_track: ClassVar[int] = 0
    """Which track's product lowers the numerator."""
    den_track: ClassVar[int | None] = 1
    """Which track's product lowers the denominator; None where the denominator is constant."""

    @abstractmethod
    def start(self, posterior: Posterior, targets: Targets) -> AcquisitionState:
        """Return the state before the first pick, given everything already known."""

    def products_(self, dots: Tensor) -> Tensor:
        """Turn dot products x . column (N x num_tracks x B) into decrements, in place: here p_t -> p_t^2."""
        return dots.square_()

    def gain(self, scores: Scores) -> Tensor:
        """Return the gain of every row in `unit`: here 1/2 log(num / den), computed without cancellation."""
        return 0.5 * torch.log1p((scores.num - scores.den) / scores.den)

    def threshold(self, gain: float) -> float:
        """Return the ratio num/den at which the gain has this value."""
        return float(torch.exp(torch.tensor(2.0 * gain, dtype=torch.float64)))

    def tie_width(self, gain: float, gain_scale: float) -> float:
        """Return the difference of gains below which two rows count as equal (then the smaller id wins)."""
        return 1e-9 * abs(gain) + 1e-12 * gain_scale

    def gain_error(self, scores: Scores, num_error: Tensor, den_error: Tensor) -> Tensor:
        """Return by how much every row's gain may be off when num and den are off by absolute amounts."""
        return 0.5 * (num_error / scores.num + den_error / scores.den)

    def split(self, decrements: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (dnum, dden), N x B each, from N x num_tracks x B decrements."""
        dden = None if self.den_track is None else decrements[:, self.den_track]
        return decrements[:, self.num_track], dden
