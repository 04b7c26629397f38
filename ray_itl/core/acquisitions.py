"""The sequential acquisitions: ITL, VTL (SIFT on unit embeddings), and undirected uncertainty.

References: [TAL] Huebotter et al., "Transductive Active Learning", NeurIPS 2024, arXiv 2402.15898;
[SIFT] Huebotter et al., arXiv 2410.08020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition, AcquisitionState, Quadratic, Scores
from ray_itl.core.linalg import removed_factor
from ray_itl.core.posterior import Posterior, Targets


@dataclass(frozen=True)
class InformationGain(Acquisition):
    """ITL: I(f_A; y_x | picks) = 1/2 log((x'Sx + s2) / (x'S_A x + s2)), in nats ([TAL], eq. 43 and 44).

    S is the weight covariance given the picks, S_A the same given the targets too, observed with variance
    s2A / w_a (eq. 44; s2A = s2 by default) or without noise (s2A = 0, eq. 43; weights then change nothing).
    """

    target_noise_variance: float | None = None
    """s2A >= 0; None means s2A = noise_variance."""
    name: ClassVar[str] = "itl"

    def start(self, posterior: Posterior, targets: Targets) -> _InformationGainState:
        """Condition a copy of the posterior on the targets. O(M D^2 + D^3)."""
        noise = self.noise_variance if self.target_noise_variance is None else self.target_noise_variance
        given_targets = posterior.condition_on_rows(targets.weighted, noise)
        return _InformationGainState(self.noise_variance, posterior, given_targets)


@dataclass(frozen=True)
class _InformationGainState(AcquisitionState):
    noise_variance: float
    given_picks: Posterior
    given_targets: Posterior

    @property
    def posterior(self) -> Posterior:
        return self.given_picks

    def scores(self, rows: Tensor) -> Scores:
        s2 = self.noise_variance
        return Scores(self.given_picks.variance(rows) + s2, self.given_targets.variance(rows) + s2)

    def columns(self, row: Tensor) -> Tensor:
        s2 = self.noise_variance
        w = [_scaled_covariance(p, row, s2) for p in (self.given_picks, self.given_targets)]
        return torch.stack(w, dim=1)

    def condition(self, row: Tensor) -> _InformationGainState:
        s2 = self.noise_variance
        picks, targets = self.given_picks.condition(row, s2), self.given_targets.condition(row, s2)
        return replace(self, given_picks=picks, given_targets=targets)

    def quadratics(self) -> tuple[Quadratic, Quadratic]:
        s2 = self.noise_variance
        return _variance_form(self.given_picks, s2), _variance_form(self.given_targets, s2)


@dataclass(frozen=True)
class VarianceReduction(Acquisition):
    """VTL: total drop of target variance, sum_a w_a k(a, x)^2 / (k(x, x) + s2), in units of variance ([TAL]).

    On unit-norm embeddings this is SIFT with lambda = s2 ([SIFT]). With M = A' diag(w) A the numerator is
    q = x'S M S x. Picking y: q <- q - 2 (x.w)(x.z), with w = S y / sqrt(y'Sy + s2) and
    z = S M w - (w'M w / 2) w.
    """

    name: ClassVar[str] = "vtl"
    unit: ClassVar[str] = "variance"
    num_track: ClassVar[int] = 1
    den_track: ClassVar[int | None] = 0

    def start(self, posterior: Posterior, targets: Targets) -> _VarianceReductionState:
        """Compress the targets to their second moment. O(M D^2)."""
        return _VarianceReductionState(self.noise_variance, posterior, targets.moment_root())

    def products_(self, dots: Tensor) -> Tensor:
        """(p, r) -> (p^2, 2 p r), in place."""
        dots[:, 1].mul_(dots[:, 0]).mul_(2.0)
        dots[:, 0].square_()
        return dots

    def gain(self, scores: Scores) -> Tensor:
        """Return num / den."""
        return scores.num / scores.den

    def threshold(self, gain: float) -> float:
        """Return the gain: it is the ratio."""
        return gain

    def gain_error(self, scores: Scores, num_error: Tensor, den_error: Tensor) -> Tensor:
        """Return the first-order error of num / den."""
        return (num_error + scores.num / scores.den * den_error) / scores.den


@dataclass(frozen=True)
class _VarianceReductionState(AcquisitionState):
    noise_variance: float
    given_picks: Posterior
    moment_root: Tensor
    """T with T'T = M, r x D."""

    @property
    def posterior(self) -> Posterior:
        return self.given_picks

    @property
    def gain_scale(self) -> float:
        return float(self.moment_root.square().sum()) or 1.0

    def _target_root(self) -> Tensor:
        return self.moment_root @ self.given_picks.root

    def scores(self, rows: Tensor) -> Scores:
        whitened = rows @ self.given_picks.root
        num = (whitened @ self._target_root().mT).square().sum(dim=1)
        return Scores(num, whitened.square().sum(dim=1) + self.noise_variance)

    def columns(self, row: Tensor) -> Tensor:
        w = _scaled_covariance(self.given_picks, row, self.noise_variance)
        at_targets = self.moment_root @ w
        z = self.given_picks.root @ (self._target_root().mT @ at_targets) - 0.5 * (at_targets @ at_targets) * w
        return torch.stack([w, z], dim=1)

    def condition(self, row: Tensor) -> _VarianceReductionState:
        return replace(self, given_picks=self.given_picks.condition(row, self.noise_variance))

    def quadratics(self) -> tuple[Quadratic, Quadratic]:
        factor = self.given_picks.root @ self._target_root().mT
        return Quadratic(0.0, 1.0, factor, 0.0), _variance_form(self.given_picks, self.noise_variance)


@dataclass(frozen=True)
class Uncertainty(Acquisition):
    """Undirected ITL: I(f_x; y_x | picks) = 1/2 log(1 + x'Sx / s2), in nats; the targets play no part ([TAL])."""

    name: ClassVar[str] = "uncertainty"
    num_tracks: ClassVar[int] = 1
    den_track: ClassVar[int | None] = None

    def start(self, posterior: Posterior, targets: Targets) -> _UncertaintyState:
        """Return the state of the posterior alone."""
        del targets
        return _UncertaintyState(self.noise_variance, posterior)


@dataclass(frozen=True)
class _UncertaintyState(AcquisitionState):
    noise_variance: float
    given_picks: Posterior

    @property
    def posterior(self) -> Posterior:
        return self.given_picks

    def scores(self, rows: Tensor) -> Scores:
        variance = self.given_picks.variance(rows)
        return Scores(variance + self.noise_variance, torch.full_like(variance, self.noise_variance))

    def columns(self, row: Tensor) -> Tensor:
        return _scaled_covariance(self.given_picks, row, self.noise_variance)[:, None]

    def condition(self, row: Tensor) -> _UncertaintyState:
        return replace(self, given_picks=self.given_picks.condition(row, self.noise_variance))

    def quadratics(self) -> tuple[Quadratic, Quadratic]:
        none = self.given_picks.root[:, :0]
        return _variance_form(self.given_picks, self.noise_variance), Quadratic(0, 1, none, self.noise_variance)


def _scaled_covariance(posterior: Posterior, row: Tensor, noise_variance: float) -> Tensor:
    """Return w = S y / sqrt(y'Sy + s2): picking y subtracts w w' from S."""
    f = posterior.root.mT @ row
    return posterior.root @ f / (float(f @ f) + noise_variance) ** 0.5


def _variance_form(posterior: Posterior, noise_variance: float) -> Quadratic:
    return Quadratic(1.0, -1.0, removed_factor(posterior.root), noise_variance)
