"""How much is still unknown about the targets as picks come in."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.core.posterior import Posterior, Targets


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
