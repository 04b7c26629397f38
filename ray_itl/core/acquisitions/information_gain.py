"""ITL, the information that a pick's label holds about the targets.

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
class InformationGain(Acquisition):
    """ITL: sum_t c_t I(f_A_t; y_x | picks) = sum_t c_t / 2 log((x'Sx + s2) / (x'S_t x + s2)), in nats.

    S is the weight covariance given the picks, S_t the same given the targets A_t of task t too, observed with variance
    s2A / w_a ([TAL], eq. 44; s2A = s2 by default) or without noise (s2A = 0, eq. 43; weights then change nothing).
    One task of weight 1 is ITL itself.

    Cost: K = 1 + T scores and tracks for T tasks; `start` O(T M D (r + min(M, D))), a pick O(T D r) on the driver
    and O(T D) for each row of the pool.
    """

    target_noise_variance: float | None = None
    """s2A >= 0; None means s2A = noise_variance."""
    task_weights: tuple[float, ...] = (1.0,)
    """c_t, one for each task that `start` is given; negative for a task to avoid."""
    name: ClassVar[str] = "itl"
    takes_tasks: ClassVar[bool] = True

    @property
    def score_tracks(self) -> tuple[int, ...]:
        """x'Sx, then x'S_t x of each task; each has a track of its own."""
        return tuple(range(1 + len(self.task_weights)))

    def start(self, posterior: Posterior, *tasks: Targets) -> _InformationGainState:
        """Condition a copy of the posterior on the targets of each task. O(M D (r + min(M, D))) for each."""
        noise = self.noise_variance if self.target_noise_variance is None else self.target_noise_variance
        given = tuple(
            posterior.condition_on_rows(task.weighted, noise) for task, _ in zip(tasks, self.task_weights, strict=True)
        )
        return _InformationGainState(self.noise_variance, posterior, given)

    def gain(self, scores: Scores) -> Tensor:
        """Return sum_t c_t / 2 log(1 + (x'Sx - x'S_t x) / (x'S_t x + s2))."""
        variance, *given = scores
        gains = [
            (0.5 * weight) * torch.log1p((variance - left) / (left + self.noise_variance))
            for weight, left in zip(self.task_weights, given, strict=True)
        ]
        return gains[0] if len(gains) == 1 else torch.stack(gains).sum(dim=0)

    def gain_error(self, scores: Scores, errors: Scores) -> Tensor:
        """Return sum_t |c_t| / 2 (error / (x'Sx + s2) + error_t / (x'S_t x + s2))."""
        relative = [error / (score + self.noise_variance) for error, score in zip(errors, scores, strict=True)]
        parts = [0.5 * abs(c) * (relative[0] + r) for c, r in zip(self.task_weights, relative[1:], strict=True)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)

    def linear(self, gains: Tensor) -> Linear | None:
        """x'Sx - e^2g x'S_A x - (e^2g - 1) s2 > 0 for one task of weight 1."""
        if self.task_weights != (1.0,):
            return None
        ones = torch.ones_like(gains)
        # Not s2 - e^2g s2: beside a large noise gains are small, and the difference would be all rounding.
        constants = -self.noise_variance * torch.expm1(2.0 * gains)
        return Linear(torch.stack([ones, -torch.exp(2.0 * gains)]), constants)

    @property
    def forms(self) -> tuple[tuple[float, ...], ...]:
        """x'(S - S_t)x of each task, then x'(I - S_t)x."""
        num = len(self.task_weights)
        given = [[0.0, *(-1.0 if task == t else 0.0 for task in range(num))] for t in range(num)]
        return (*((1.0, *row[1:]) for row in given), *(tuple(row) for row in given))

    def reach(self, norms: Tensor, lower: Scores, upper: Scores) -> Tensor:
        """Return sum_t c_t / 2 log(1 + x'(S - S_t)x / (x'S_t x + s2)), each term at its most."""
        num, gains = len(self.task_weights), torch.zeros_like(lower[0])
        for t, weight in enumerate(self.task_weights):
            told, removed = (upper[t], upper[num + t]) if weight > 0 else (lower[t], lower[num + t])
            gains = gains + 0.5 * weight * torch.log1p(told / ((norms - removed).clamp_min(0) + self.noise_variance))
        return gains

    def order(self, scores: Scores) -> Tensor:
        """Return (x'Sx - x'S_A x) / (x'S_A x + s2) for one task of weight 1."""
        if self.task_weights != (1.0,):
            return self.gain(scores)
        return (scores[0] - scores[1]) / (scores[1] + self.noise_variance)


@dataclass(frozen=True)
class _InformationGainState(AcquisitionState):
    noise_variance: float
    given_picks: Posterior
    given_targets: tuple[Posterior, ...]

    @property
    def posterior(self) -> Posterior:
        return self.given_picks

    @property
    def _posteriors(self) -> tuple[Posterior, ...]:
        return (self.given_picks, *self.given_targets)

    def scores(self, rows: Tensor) -> Scores:
        return tuple(p.variance(rows) for p in self._posteriors)

    def columns(self, row: Tensor) -> Tensor:
        return torch.stack([p.direction(row, self.noise_variance) for p in self._posteriors], dim=1)

    def condition(self, row: Tensor) -> _InformationGainState:
        return self.step(row)[1]

    def step(self, row: Tensor) -> tuple[Tensor, _InformationGainState]:
        columns, posteriors = zip(*(p.observe(row, self.noise_variance) for p in self._posteriors), strict=True)
        state = replace(self, given_picks=posteriors[0], given_targets=posteriors[1:])
        return torch.stack(columns, dim=1), state

    def quadratics(self) -> tuple[Quadratic, ...]:
        return tuple(variance_form(p) for p in self._posteriors)

    @property
    def form_norms(self) -> tuple[float, ...]:
        return (1.0,) * (2 * len(self.given_targets))  # all are at most the prior
