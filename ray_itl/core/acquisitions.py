"""The sequential acquisitions: ITL, VTL (SIFT on unit embeddings), and undirected uncertainty.

With several tasks the objective is a weighted sum of theirs; a task of negative weight is one to avoid: its information
is subtracted. Each pick is then still the exact argmax of that sum. What greedy selection by it cannot promise is a
bound on the sum over a whole set: a difference of information gains is not monotone.

References: [TAL] Huebotter et al., "Transductive Active Learning", NeurIPS 2024, arXiv 2402.15898;
[SIFT] Huebotter et al., arXiv 2410.08020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition, AcquisitionState, Linear, Quadratic, Scores, with_offsets
from ray_itl.core.linalg import removed_factor
from ray_itl.core.posterior import Posterior, Targets


@dataclass(frozen=True)
class InformationGain(Acquisition):
    """ITL: sum_t c_t I(f_A_t; y_x | picks) = sum_t c_t / 2 log((x'Sx + s2) / (x'S_t x + s2)), in nats.

    S is the weight covariance given the picks, S_t the same given the targets A_t of task t too, observed with variance
    s2A / w_a ([TAL], eq. 44; s2A = s2 by default) or without noise (s2A = 0, eq. 43; weights then change nothing).
    One task of weight 1 is ITL itself.
    """

    target_noise_variance: float | None = None
    """s2A >= 0; None means s2A = noise_variance."""
    task_weights: tuple[float, ...] = (1.0,)
    """c_t, one for each task that `start` is given; negative for a task to avoid."""
    name: ClassVar[str] = "itl"

    @property
    def score_tracks(self) -> tuple[int, ...]:
        """x'Sx + s2, then x'S_t x + s2 of each task; each has a track of its own."""
        return tuple(range(1 + len(self.task_weights)))

    def start(self, posterior: Posterior, *tasks: Targets) -> _InformationGainState:
        """Condition a copy of the posterior on the targets of each task. O(M D^2 + D^3) for each."""
        noise = self.noise_variance if self.target_noise_variance is None else self.target_noise_variance
        given = tuple(
            posterior.condition_on_rows(task.weighted, noise) for task, _ in zip(tasks, self.task_weights, strict=True)
        )
        return _InformationGainState(self.noise_variance, posterior, given)

    def gain(self, scores: Scores, offsets: tuple[float, ...] | None = None) -> Tensor:
        """Return sum_t c_t / 2 log(1 + (num - den_t) / den_t)."""
        num, *_ = scores
        dens = with_offsets(scores, offsets)[1:]
        gains = [
            (0.5 * weight) * torch.log1p((num - free) / den)
            for weight, free, den in zip(self.task_weights, scores[1:], dens, strict=True)
        ]
        return gains[0] if len(gains) == 1 else torch.stack(gains).sum(dim=0)

    def gain_error(self, scores: Scores, errors: Scores, offsets: tuple[float, ...] | None = None) -> Tensor:
        """Return sum_t |c_t| / 2 (num_error / num + den_error / den_t)."""
        relative = [error / score for error, score in zip(errors, with_offsets(scores, offsets), strict=True)]
        parts = [0.5 * abs(c) * (relative[0] + r) for c, r in zip(self.task_weights, relative[1:], strict=True)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)

    def linear(self, gains: Tensor) -> Linear | None:
        """num - exp(2 g) den > 0 for one task of weight 1."""
        if self.task_weights != (1.0,):
            return None
        ones = torch.ones_like(gains)
        return Linear(torch.stack([ones, -torch.exp(2.0 * gains)]), torch.zeros_like(gains))

    def order(self, scores: Scores) -> Tensor:
        """Return num / den for one task of weight 1."""
        return scores[0] / scores[1] if self.task_weights == (1.0,) else self.gain(scores)


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
        return tuple(p.variance(rows) + self.noise_variance for p in self._posteriors)

    def columns(self, row: Tensor) -> Tensor:
        return torch.stack([_scaled_covariance(p, row, self.noise_variance) for p in self._posteriors], dim=1)

    def condition(self, row: Tensor) -> _InformationGainState:
        picks, *targets = (p.condition(row, self.noise_variance) for p in self._posteriors)
        return replace(self, given_picks=picks, given_targets=tuple(targets))

    def quadratics(self) -> tuple[Quadratic, ...]:
        return tuple(_variance_form(p, self.noise_variance) for p in self._posteriors)


@dataclass(frozen=True)
class VarianceReduction(Acquisition):
    """VTL: drop of target variance, sum_t c_t sum_a w_a k(a, x)^2 / (k(x, x) + s2), in units of variance ([TAL]).

    On unit-norm embeddings this is SIFT with lambda = s2 ([SIFT]). With M_t = A_t' diag(w) A_t the numerators are
    q_t = x'S M_t S x. Picking y: q_t <- q_t - 2 (x.w)(x.z_t), with w = S y / sqrt(y'Sy + s2) and
    z_t = S M_t w - (w'M_t w / 2) w.
    """

    task_weights: tuple[float, ...] = (1.0,)
    """c_t, one for each task that `start` is given; negative for a task to avoid."""
    name: ClassVar[str] = "vtl"
    unit: ClassVar[str] = "variance"

    @property
    def score_tracks(self) -> tuple[int, ...]:
        """x'Sx + s2, then q_t of each task. Track 0 is w, track t is z_t."""
        return tuple(range(1 + len(self.task_weights)))

    def start(self, posterior: Posterior, *tasks: Targets) -> _VarianceReductionState:
        """Compress the targets of each task to their second moment. O(M D^2) for each."""
        roots = tuple(task.moment_root() for task, _ in zip(tasks, self.task_weights, strict=True))
        return _VarianceReductionState(self.noise_variance, posterior, roots)

    def products_(self, dots: Tensor) -> Tensor:
        """(p, r_1, ..) -> (p^2, 2 p r_1, ..), in place."""
        dots[:, 1:].mul_(dots[:, :1]).mul_(2.0)
        dots[:, 0].square_()
        return dots

    def gain(self, scores: Scores, offsets: tuple[float, ...] | None = None) -> Tensor:
        """Return sum_t c_t q_t / den."""
        den, *parts = with_offsets(scores, offsets)
        num = parts[0] * self.task_weights[0]
        for weight, part in zip(self.task_weights[1:], parts[1:], strict=True):
            num = num + weight * part
        return num / den

    def gain_error(self, scores: Scores, errors: Scores, offsets: tuple[float, ...] | None = None) -> Tensor:
        """Return sum_t |c_t| (q_t_error + |q_t| / den den_error) / den."""
        den, *parts = with_offsets(scores, offsets)
        off = torch.zeros_like(den)
        for weight, part, error in zip(self.task_weights, parts, errors[1:], strict=True):
            off = off + abs(weight) * (error + part.abs() / den * errors[0])
        return off / den

    def linear(self, gains: Tensor) -> Linear | None:
        """sum_t c_t q_t - g den > 0."""
        weights = torch.tensor(self.task_weights, dtype=gains.dtype)[:, None].expand(-1, len(gains))
        return Linear(torch.cat([-gains[None], weights]), torch.zeros_like(gains))


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
        whitened = rows @ self.given_picks.root
        parts = ((whitened @ self._whitened(root).mT).square().sum(dim=1) for root in self.moment_roots)
        return (whitened.square().sum(dim=1) + self.noise_variance, *parts)

    def columns(self, row: Tensor) -> Tensor:
        w = _scaled_covariance(self.given_picks, row, self.noise_variance)
        columns = [w]
        for root in self.moment_roots:
            at_targets = root @ w
            z = self.given_picks.root @ (self._whitened(root).mT @ at_targets) - 0.5 * (at_targets @ at_targets) * w
            columns.append(z)
        return torch.stack(columns, dim=1)

    def condition(self, row: Tensor) -> _VarianceReductionState:
        return replace(self, given_picks=self.given_picks.condition(row, self.noise_variance))

    def quadratics(self) -> tuple[Quadratic, ...]:
        factors = (self.given_picks.root @ self._whitened(root).mT for root in self.moment_roots)
        parts = (Quadratic(0.0, 1.0, factor, 0.0) for factor in factors)
        return (_variance_form(self.given_picks, self.noise_variance), *parts)

    def _whitened(self, root: Tensor) -> Tensor:
        return root @ self.given_picks.root


@dataclass(frozen=True)
class Uncertainty(Acquisition):
    """Undirected ITL: I(f_x; y_x | picks) = 1/2 log(1 + x'Sx / s2), in nats; the targets play no part ([TAL])."""

    name: ClassVar[str] = "uncertainty"

    @property
    def score_tracks(self) -> tuple[int, ...]:
        """x'Sx alone."""
        return (0,)

    def start(self, posterior: Posterior, *tasks: Targets) -> _UncertaintyState:
        """Return the state of the posterior alone."""
        del tasks
        return _UncertaintyState(self.noise_variance, posterior)

    def gain(self, scores: Scores, offsets: tuple[float, ...] | None = None) -> Tensor:
        """Return 1/2 log(1 + x'Sx / s2)."""
        (variance,) = with_offsets(scores, offsets)
        return 0.5 * torch.log1p(variance / self.noise_variance)

    def gain_error(self, scores: Scores, errors: Scores, offsets: tuple[float, ...] | None = None) -> Tensor:
        """Return error / (2 (x'Sx + s2))."""
        (variance,) = with_offsets(scores, offsets)
        return 0.5 * errors[0] / (variance + self.noise_variance)

    def linear(self, gains: Tensor) -> Linear | None:
        """x'Sx - s2 (exp(2 g) - 1) > 0."""
        return Linear(torch.ones_like(gains)[None], -self.noise_variance * torch.expm1(2.0 * gains))

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
        return _scaled_covariance(self.given_picks, row, self.noise_variance)[:, None]

    def condition(self, row: Tensor) -> _UncertaintyState:
        return replace(self, given_picks=self.given_picks.condition(row, self.noise_variance))

    def quadratics(self) -> tuple[Quadratic, ...]:
        return (_variance_form(self.given_picks, 0.0),)


def _scaled_covariance(posterior: Posterior, row: Tensor, noise_variance: float) -> Tensor:
    """Return w = S y / sqrt(y'Sy + s2): picking y subtracts w w' from S."""
    f = posterior.root.mT @ row
    return posterior.root @ f / (float(f @ f) + noise_variance) ** 0.5


def _variance_form(posterior: Posterior, noise_variance: float) -> Quadratic:
    return Quadratic(1.0, -1.0, removed_factor(posterior.root), noise_variance)
