"""Undirected uncertainty: the information that a pick's label holds about the model, whatever the targets.

Reference: [TAL] Huebotter et al., "Transductive Active Learning: Theory and Applications", NeurIPS 2024,
arXiv 2402.15898.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import (
    Acquisition,
    AcquisitionState,
    Linear,
    Quadratic,
    Scores,
    variance_form,
)
from ray_itl.core.posterior import Posterior, Targets


@dataclass(frozen=True)
class Uncertainty(Acquisition):
    """Undirected ITL: I(f_x; y_x | picks) = 1/2 log(1 + x'Sx / s2), in nats; the targets play no part ([TAL]).

    Cost: one score and one track; a pick O(D r) on the driver and O(D) for each row of the pool.
    """

    name: ClassVar[str] = "uncertainty"

    @property
    def score_tracks(self) -> tuple[int, ...]:
        """x'Sx alone."""
        return (0,)

    def start(self, posterior: Posterior, *tasks: Targets) -> _UncertaintyState:
        """Return the state of the posterior alone."""
        del tasks
        return _UncertaintyState(self.noise_variance, posterior)

    def gain(self, scores: Scores) -> Tensor:
        """Return 1/2 log(1 + x'Sx / s2)."""
        (variance,) = scores
        return 0.5 * torch.log1p(variance / self.noise_variance)

    def gain_error(self, scores: Scores, errors: Scores) -> Tensor:
        """Return error / (2 (x'Sx + s2))."""
        (variance,) = scores
        return 0.5 * errors[0] / (variance + self.noise_variance)

    def linear(self, gains: Tensor) -> Linear | None:
        """x'Sx - s2 (exp(2 g) - 1) > 0."""
        return Linear(torch.ones_like(gains)[None], -self.noise_variance * torch.expm1(2.0 * gains))

    @property
    def forms(self) -> tuple[tuple[float, ...], ...]:
        """x'(I - S)x."""
        return ((-1.0,),)

    def reach(self, norms: Tensor, lower: Scores, upper: Scores) -> Tensor:
        """Return 1/2 log(1 + (|x|^2 - x'(I - S)x) / s2) at its most."""
        del upper
        return 0.5 * torch.log1p((norms - lower[0]).clamp_min(0) / self.noise_variance)

    def order(self, scores: Scores) -> Tensor:
        """Return x'Sx."""
        return scores[0]


@dataclass(frozen=True)
class _UncertaintyState(AcquisitionState):
    noise_variance: float
    given_picks: Posterior

    @property
    def posterior(self) -> Posterior:
        return self.given_picks

    def scores(self, rows: Tensor) -> Scores:
        return (self.given_picks.variance(rows),)

    def columns(self, row: Tensor) -> Tensor:
        return self.given_picks.direction(row, self.noise_variance)[:, None]

    def condition(self, row: Tensor) -> _UncertaintyState:
        return replace(self, given_picks=self.given_picks.condition(row, self.noise_variance))

    def step(self, row: Tensor) -> tuple[Tensor, _UncertaintyState]:
        direction, posterior = self.given_picks.observe(row, self.noise_variance)
        return direction[:, None], replace(self, given_picks=posterior)

    def quadratics(self) -> tuple[Quadratic, ...]:
        return (variance_form(self.given_picks),)

    @property
    def form_norms(self) -> tuple[float, ...]:
        return (1.0,)  # at most the prior
