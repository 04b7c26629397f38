"""The Gaussian posterior of a linear model's weights, the targets it is to learn about, and what is unknown of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.linalg import compress_rows, condition_root, condition_root_on_rows


@dataclass(frozen=True)
class Posterior:
    """Weights ~ N(., S) with S = R R'; only the covariance matters for selection.

    Immutable: `condition` returns a new posterior.
    """

    root: Tensor
    """R, D x D float64."""

    @classmethod
    def prior(cls, dim: int) -> Posterior:
        """Return the prior N(., I) over D weights."""
        return cls(torch.eye(dim, dtype=torch.float64))

    def condition(self, row: Tensor, noise_variance: float) -> Posterior:
        """Observe y'w + noise for one row y (D): S <- S - S y y'S / (y'Sy + s2). O(D^2)."""
        return Posterior(condition_root(self.root, row, noise_variance))

    def condition_on_rows(self, rows: Tensor, noise_variance: float) -> Posterior:
        """Observe Y w + noise for many rows Y (m x D), s2 >= 0. O(m D^2 + D^3)."""
        return Posterior(condition_root_on_rows(self.root, rows, noise_variance))

    def variance(self, rows: Tensor) -> Tensor:
        """Return x'Sx of every row (N x D -> N), with full relative accuracy. O(N D^2)."""
        return (rows @ self.root).square().sum(dim=1)

    def covariance_with(self, row: Tensor) -> Tensor:
        """Return S y (D) of one row y (D). O(D^2)."""
        return self.root @ (self.root.mT @ row)


@dataclass(frozen=True)
class Targets:
    """The target sample in feature space, with a weight for each target.

    A weight w_a divides that target's noise variance (ITL) and multiplies its share of the objective (VTL):
    both see only diag(sqrt(w)) A. Weight 2 is the same as listing the target twice.
    """

    rows: Tensor
    """A, M x D float64."""
    weights: Tensor
    """w, M float64, >= 0."""

    @classmethod
    def uniform(cls, rows: Tensor) -> Targets:
        """Return targets of weight 1."""
        return cls(rows, torch.ones(rows.shape[0], dtype=torch.float64))

    @property
    def weighted(self) -> Tensor:
        """diag(sqrt(w)) A without the rows of weight zero: m x D."""
        present = self.weights > 0
        return self.rows[present] * self.weights[present].sqrt()[:, None]

    def moment_root(self) -> Tensor:
        """Return T, min(M, D) x D, with T'T = A' diag(w) A. O(M D^2)."""
        return compress_rows(self.weighted)


def target_variance(posterior: Posterior, targets: Targets) -> float:
    """Return sum_a w_a k(a, a) over the targets under a posterior. O((M + D) D min(M, D))."""
    return float((targets.moment_root() @ posterior.root).square().sum())


def remaining_uncertainty(posterior: Posterior, targets: Targets, picks: Tensor, noise_variance: float) -> Tensor:
    """Return sum_a w_a k(a, a) after 0, 1, .., n picks as a share of its value before the first.

    Args:
        posterior: What is known before the first pick.
        targets: The target sample.
        picks: Features of the picks in order, n x D float64.
        noise_variance: s2 of an observation.

    Returns:
        n + 1 float64, from 1 down; all 1 where the targets have no variance to lose. O(n (D^2 + min(M, D) D)).
    """
    total = target_variance(posterior, targets)
    falls = (targets.moment_root() @ directions(posterior, picks, noise_variance)).square().sum(dim=0)
    left = torch.cat([torch.tensor([total], dtype=torch.float64), -falls]).cumsum(dim=0).clamp_min(0)
    return left / total if total > 0 else torch.ones_like(left)


def directions(posterior: Posterior, picks: Tensor, noise_variance: float) -> Tensor:
    """Return w = S y / sqrt(y'Sy + s2) of every pick y at its step: picking y subtracts w w' from S.

    Args:
        posterior: What is known before the first pick.
        picks: Features of the picks in order, n x D float64.
        noise_variance: s2 of an observation.

    Returns:
        D x n. O(n D^2).
    """
    columns = torch.empty(picks.shape[1], len(picks), dtype=torch.float64)
    for step, pick in enumerate(picks):
        columns[:, step] = posterior.covariance_with(pick) / (posterior.variance(pick[None])[0] + noise_variance).sqrt()
        posterior = posterior.condition(pick, noise_variance)
    return columns
