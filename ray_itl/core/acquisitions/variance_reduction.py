"""VTL, the drop of the targets' variance; on unit-norm embeddings it is SIFT.

References: [TAL] Huebotter et al., "Transductive Active Learning: Theory and Applications", NeurIPS 2024,
arXiv 2402.15898; [SIFT] Huebotter et al., "Efficiently Learning at Test-Time", arXiv 2410.08020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import (
    Acquisition,
    AcquisitionState,
    GainUnit,
    Linear,
    Quadratic,
    Scores,
    StepProduct,
    variance_form,
)
from ray_itl.core.posterior import Posterior, Targets


@dataclass(frozen=True)
class VarianceReduction(Acquisition):
    """VTL: drop of target variance, sum_t c_t sum_a w_a k(a, x)^2 / (k(x, x) + s2), in units of variance ([TAL]).

    On unit-norm embeddings this is SIFT with lambda = s2 ([SIFT]). With M_t = A_t' diag(w) A_t the numerators are
    q_t = x'S M_t S x. Picking y: q_t <- q_t - 2 (x.w)(x.z_t), with w = S y / sqrt(y'Sy + s2) and
    z_t = S M_t w - (w'M_t w / 2) w.

    Cost: K = 1 + T scores and tracks for T tasks; `start` O(T M D^2), a pick O(T M D r) on the driver and O(T D) for
    each row of the pool.
    """

    integer_noise: ClassVar[float] = 0.5  # the largest eigenvalue of S M S is far above what late picks are worth
    task_weights: tuple[float, ...] = (1.0,)
    """c_t, one for each task that `start` is given; negative for a task to avoid."""
    name: ClassVar[str] = "vtl"
    unit: ClassVar[GainUnit] = "variance"
    takes_tasks: ClassVar[bool] = True

    @property
    def score_tracks(self) -> tuple[int, ...]:
        """x'Sx, then q_t of each task. Track 0 is w, track t is z_t."""
        return tuple(range(1 + len(self.task_weights)))

    def start(self, posterior: Posterior, *tasks: Targets) -> _VarianceReductionState:
        """Compress the targets of each task to their second moment. O(M D^2) for each."""
        roots = tuple(task.moment_root() for task, _ in zip(tasks, self.task_weights, strict=True))
        return _VarianceReductionState(self.noise_variance, posterior, roots)

    @property
    def step_products(self) -> tuple[StepProduct, ...]:
        """p^2, then 2 p r_t of each task."""
        num, p = self.num_tracks, {0: 1.0}
        return tuple(StepProduct.of_tracks(p, {t: 2.0} if t else p, num) for t in range(num))

    @property
    def forms(self) -> tuple[tuple[float, ...], ...]:
        """x'(I - S)x, then q_t of each task."""
        num = len(self.task_weights)
        parts = (tuple(1.0 if score == 1 + t else 0.0 for score in range(1 + num)) for t in range(num))
        return ((-1.0, *([0.0] * num)), *parts)

    def reach(self, norms: Tensor, lower: Scores, upper: Scores) -> Tensor:
        """Return sum_t c_t q_t / (x'Sx + s2) at its most."""
        told = torch.zeros_like(lower[0])
        for t, weight in enumerate(self.task_weights, start=1):
            told = told + weight * (upper[t] if weight > 0 else lower[t])
        removed = upper[0].where(told > 0, lower[0])
        return told / ((norms - removed).clamp_min(0) + self.noise_variance)

    def products_(self, dots: Tensor) -> Tensor:
        """(p, r_1, ..) -> (p^2, 2 p r_1, ..), in place."""
        dots[:, 1:].mul_(dots[:, :1]).mul_(2.0)
        dots[:, 0].square_()
        return dots

    def gain(self, scores: Scores) -> Tensor:
        """Return sum_t c_t q_t / (x'Sx + s2)."""
        variance, *parts = scores
        num = parts[0] * self.task_weights[0]
        for weight, part in zip(self.task_weights[1:], parts[1:], strict=True):
            num = num + weight * part
        return num / (variance + self.noise_variance)

    def gain_error(self, scores: Scores, errors: Scores) -> Tensor:
        """Return sum_t |c_t| (q_t_error + |q_t| / d d_error) / d, where d = x'Sx + s2."""
        variance, *parts = scores
        den = variance + self.noise_variance
        off = torch.zeros_like(den)
        for weight, part, error in zip(self.task_weights, parts, errors[1:], strict=True):
            off = off + abs(weight) * (error + part.abs() / den * errors[0])
        return off / den

    def linear(self, gains: Tensor) -> Linear | None:
        """sum_t c_t q_t - g x'Sx - g s2 > 0."""
        weights = torch.tensor(self.task_weights, dtype=gains.dtype)[:, None].expand(-1, len(gains))
        return Linear(torch.cat([-gains[None], weights]), -self.noise_variance * gains)


@dataclass(frozen=True)
class _VarianceReductionState(AcquisitionState):
    noise_variance: float
    given_picks: Posterior
    moment_roots: tuple[Tensor, ...]
    """T_t with T_t'T_t = M_t, r x D."""

    @property
    def posterior(self) -> Posterior:
        return self.given_picks

    @property
    def gain_scale(self) -> float:
        return sum(float(root.square().sum()) for root in self.moment_roots) or 1.0

    def scores(self, rows: Tensor) -> Scores:
        now = self.given_picks
        seen = now.whitened(rows)
        parts = ((seen @ now.whitened(root).mT).square().sum(dim=1) for root in self.moment_roots)
        return (seen.square().sum(dim=1), *parts)

    def columns(self, row: Tensor) -> Tensor:
        return self._columns(self.given_picks.direction(row, self.noise_variance))

    def _columns(self, w: Tensor) -> Tensor:
        columns = [w]
        for root in self.moment_roots:
            at_targets = root @ w
            columns.append(self.given_picks.covariance_with(at_targets @ root) - 0.5 * (at_targets @ at_targets) * w)
        return torch.stack(columns, dim=1)

    def condition(self, row: Tensor) -> _VarianceReductionState:
        return replace(self, given_picks=self.given_picks.condition(row, self.noise_variance))

    def step(self, row: Tensor) -> tuple[Tensor, _VarianceReductionState]:
        direction, posterior = self.given_picks.observe(row, self.noise_variance)
        return self._columns(direction), replace(self, given_picks=posterior)

    def quadratics(self) -> tuple[Quadratic, ...]:
        parts = (Quadratic(0.0, 1.0, self.given_picks.covariance_with(root).mT) for root in self.moment_roots)
        return (variance_form(self.given_picks), *parts)

    @property
    def form_norms(self) -> tuple[float, ...]:
        # S M S <= S^(1/2) M S^(1/2) in its largest eigenvalue, as S <= I; and that one only falls with further picks.
        told = (root @ self.given_picks.covariance_with(root).mT for root in self.moment_roots)
        return (1.0, *(float(torch.linalg.matrix_norm(part, 2)) * (1 + 1e-9) for part in told))
