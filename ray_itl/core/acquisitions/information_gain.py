"""ITL, the information that a pick's label holds about the targets.

Reference: [TAL] Huebotter et al., "Transductive Active Learning: Theory and Applications", NeurIPS 2024,
arXiv 2402.15898.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    StepProduct,
    variance_form,
)
from ray_itl.core.posterior import Posterior, Targets


@dataclass(frozen=True)
class InformationGain(Acquisition):
    """ITL: sum_t c_t I(f_A_t; y_x | picks) = sum_t c_t / 2 log(1 + q_t / (u_t + s2)), in nats.

    u_t = x'S_t x is the variance of f_x that is left once the values at task t's targets are known, and
    q_t = x'(S - S_t)x what they take of it: the logarithm's argument is (x'Sx + s2) / (x'S_t x + s2). q_t is a score of
    its own: once many picks have been made it is far smaller than either variance, whose difference would be rounding.
    Picking y, with w = S y / sqrt(y'Sy + s2), w_t the same of S_t, and d_t = w - w_t:

        u_t <- u_t - (x.w - x.d_t)^2        q_t <- q_t - (x.d_t)(2 x.w - x.d_t)

    S is the weight covariance given the picks, S_t the same given the targets A_t of task t too, observed with variance
    s2A / w_a ([TAL], eq. 44; s2A = s2 by default) or without noise (s2A = 0, eq. 43; weights then change nothing).
    One task of weight 1 is ITL itself.

    Cost: K = 2 T scores and 1 + T tracks for T tasks; `start` O(T M D (r + min(M, D))), a pick O(T D r) on the driver
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
        """u_t of each task, then q_t of each."""
        return tuple(range(2 * len(self.task_weights)))

    @property
    def num_tracks(self) -> int:
        """Track 0 is w, track t is d_t."""
        return 1 + len(self.task_weights)

    @property
    def step_products(self) -> tuple[StepProduct, ...]:
        """(p - p_t)^2 of each task, then p_t (2 p - p_t)."""
        num, tracks = self.num_tracks, range(1, self.num_tracks)
        left = (StepProduct.of_tracks({0: 1.0, t: -1.0}, {0: 1.0, t: -1.0}, num) for t in tracks)
        told = (StepProduct.of_tracks({t: 1.0}, {0: 2.0, t: -1.0}, num) for t in tracks)
        return (*left, *told)

    def products_(self, dots: Tensor) -> Tensor:
        """(p, p_1, ..) -> ((p - p_1)^2, .., p_1 (2 p - p_1), ..), in place for one task."""
        p, told = dots[:, :1], dots[:, 1:]
        left = p - told
        if told.shape[1] > 1:
            return torch.cat([left.square(), told * (p + left)], dim=1)
        told.mul_(p.add_(left))
        torch.square(left, out=p)
        return dots

    def start(self, posterior: Posterior, *tasks: Targets) -> _InformationGainState:
        """Condition a copy of the posterior on the targets of each task. O(M D (r + min(M, D))) for each."""
        noise = self.noise_variance if self.target_noise_variance is None else self.target_noise_variance
        given = tuple(
            posterior.condition_on_rows(task.weighted, noise) for task, _ in zip(tasks, self.task_weights, strict=True)
        )
        return _InformationGainState(self.noise_variance, posterior, given)

    def gain(self, scores: Scores) -> Tensor:
        """Return sum_t c_t / 2 log(1 + q_t / (u_t + s2))."""
        return self._sum(0.5 * torch.log1p(told / (left + self.noise_variance)) for left, told in self._pairs(scores))

    def gain_error(self, scores: Scores, errors: Scores) -> Tensor:
        """Return sum_t |c_t| / 2 (q_t_error + q_t / (q_t + u_t + s2) u_t_error) / (u_t + s2)."""
        found = []
        for (left, told), (left_off, told_off) in zip(self._pairs(scores), self._pairs(errors), strict=True):
            noisy = left + self.noise_variance
            found.append(0.5 * (told_off + told.abs() / (told + noisy) * left_off) / noisy)
        return self._sum(found, absolute=True)

    def linear(self, gains: Tensor) -> Linear | None:
        """q - (e^2g - 1) (u + s2) > 0 for one task of weight 1."""
        if self.task_weights != (1.0,):
            return None
        # Not e^2g - 1: beside a large noise gains are small, and the difference would be all rounding.
        more = torch.expm1(2.0 * gains)
        return Linear(torch.stack([-more, torch.ones_like(gains)]), -self.noise_variance * more)

    @property
    def forms(self) -> tuple[tuple[float, ...], ...]:
        """x'(I - S_t)x of each task, then q_t of each."""
        num = self.num_scores
        signs = (-1.0 if 2 * score < num else 1.0 for score in range(num))
        return tuple(tuple(sign if other == score else 0.0 for other in range(num)) for score, sign in enumerate(signs))

    def reach(self, norms: Tensor, lower: Scores, upper: Scores) -> Tensor:
        """Return sum_t c_t / 2 log(1 + q_t / (u_t + s2)), each term at its most."""
        gains = torch.zeros_like(lower[0])
        for weight, least, most in zip(self.task_weights, self._pairs(lower), self._pairs(upper), strict=True):
            removed, told = most if weight > 0 else least
            gains = gains + 0.5 * weight * torch.log1p(told / ((norms - removed).clamp_min(0) + self.noise_variance))
        return gains

    def order(self, scores: Scores) -> Tensor:
        """Return q / (u + s2) for one task of weight 1."""
        if self.task_weights != (1.0,):
            return self.gain(scores)
        return scores[1] / (scores[0] + self.noise_variance)

    def _pairs(self, scores: Scores) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each task what its scores are: of u_t, and of q_t."""
        num = len(self.task_weights)
        return zip(scores[:num], scores[num:], strict=True)

    def _sum(self, parts: Iterable[Tensor], absolute: bool = False) -> Tensor:
        """Return sum_t c_t parts_t, or with |c_t|."""
        found = [
            part * (abs(weight) if absolute else weight) for weight, part in zip(self.task_weights, parts, strict=True)
        ]
        return found[0] if len(found) == 1 else torch.stack(found).sum(dim=0)


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
        variance, left = self.given_picks.variance(rows), [given.variance(rows) for given in self.given_targets]
        return (*left, *(variance - each for each in left))

    def columns(self, row: Tensor) -> Tensor:
        return _columns([p.direction(row, self.noise_variance) for p in self._posteriors])

    def condition(self, row: Tensor) -> _InformationGainState:
        return self.step(row)[1]

    def step(self, row: Tensor) -> tuple[Tensor, _InformationGainState]:
        columns, posteriors = zip(*(p.observe(row, self.noise_variance) for p in self._posteriors), strict=True)
        state = replace(self, given_picks=posteriors[0], given_targets=posteriors[1:])
        return _columns(columns), state

    def quadratics(self) -> tuple[Quadratic, ...]:
        now, left = self.given_picks, [variance_form(given) for given in self.given_targets]
        factors = (
            form.factor if now.is_prior else now.told_factor(given)
            for form, given in zip(left, self.given_targets, strict=True)
        )
        return (*left, *(Quadratic(0.0, 1.0, factor, terms=1.0) for factor in factors))

    @property
    def form_norms(self) -> tuple[float, ...]:
        return (1.0,) * (2 * len(self.given_targets))  # all are at most the prior


def _columns(directions: Sequence[Tensor]) -> Tensor:
    """Return w, then w - w_t of each task, D x num_tracks."""
    first = directions[0]
    return torch.stack([first, *(first - other for other in directions[1:])], dim=1)
