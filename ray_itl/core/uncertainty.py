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
    root = targets.moment_root()
    total = torch.tensor(target_variance(posterior, targets), dtype=torch.float64)
    left = [total]
    for pick in picks:
        w = posterior.covariance_with(pick) / (posterior.variance(pick[None])[0] + noise_variance).sqrt()
        left.append(left[-1] - (root @ w).square().sum())
        posterior = posterior.condition(pick, noise_variance)
    curve = torch.stack(left).clamp_min(0)
    return curve / total if float(total) > 0 else torch.ones_like(curve)
