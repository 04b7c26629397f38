"""Which targets a pick was worth its gain for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition
from ray_itl.core.acquisitions import InformationGain, VarianceReduction
from ray_itl.core.posterior import Posterior, Targets

_CHUNK_ENTRIES = 1 << 23
_KNOWN = 1e-12


class TargetShares(NamedTuple):
    """For each of n picks the k targets of the largest share of its gain, largest first (lowest index among equals)."""

    indices: Tensor
    """n x k int64."""
    shares: Tensor
    """n x k float64 in [0, 1]; 0 throughout for a pick that says nothing about any target alone."""


def target_shares(
    acquisition: Acquisition,
    posterior: Posterior,
    targets: Targets,
    directions: Tensor,
    count: int,
    importance: Tensor | None = None,
) -> TargetShares:
    """Return the shares of every pick's gain that go to its `count` (at most M) foremost targets.

    The share of target a in a pick y is c_a g_a / sum_b c_b g_b, with the weight c_a of its task, where g_a is the gain
    that y would have, given the picks before it, if a were the only target. With c(a, y) = k(a, y | picks before),
    v = k(y, y | picks before) and z_a = c(a, y)^2 / (v + s2), by which the variance of f_a falls:

        VTL   g_a = w_a z_a
        else  g_a = -1/2 log(1 - z_a / (k(a, a | picks before) + s2A / w_a))    (I(f_a; y), with noise I(y_a; y))

    For VTL the shares are exact: the gain is the sum of its c_a g_a. For ITL they are a convention: the joint gain
    I(f_A; y) is not a sum over targets. Targets that repeat each other are each counted in full, so that the sum of the
    g_a may exceed the gain, and targets that tell something only together count for nothing. Uncertainty looks at no
    target; its picks are divided as ITL's with s2A = s2, as are those of the baselines.

    Variances fall by subtraction: a target with less than 1e-12 of its squared norm left counts as known (share 0).

    Args:
        acquisition: The rule, for s2 and s2A.
        posterior: What is known before the first pick.
        targets: M targets with their weights.
        directions: S y / sqrt(v + s2) of every pick y at its step, D x n float64: S falls by their outer products.
        count: How many targets to name, >= 1.
        importance: c, M float64 >= 0; None: all 1.

    O(M n D), in bounded memory beside n x count.
    """
    num_picks = directions.shape[1]
    total = torch.zeros(num_picks, dtype=torch.float64)
    best = TargetShares(torch.empty(num_picks, 0, dtype=torch.int64), torch.empty(num_picks, 0, dtype=torch.float64))
    for start in range(0, len(targets.rows), step := max(1, _CHUNK_ENTRIES // max(1, num_picks))):
        part = slice(start, start + step)
        gains = _single_gains(acquisition, posterior, targets.rows[part], targets.weights[part], directions).mT
        gains = gains if importance is None else gains * importance[part]
        total += gains.sum(dim=1)
        best = _foremost(best, torch.arange(start, start + gains.shape[1]).expand_as(gains), gains, count)
    return TargetShares(best.indices, best.shares / total.where(total > 0, 1.0)[:, None])


def _single_gains(
    acquisition: Acquisition, posterior: Posterior, rows: Tensor, weights: Tensor, directions: Tensor
) -> Tensor:
    """Return g_a of some targets for every pick, m x n."""
    falls = (rows @ directions).square_()
    if isinstance(acquisition, VarianceReduction):
        return falls.mul_(weights[:, None])
    noise = acquisition.noise_variance
    if isinstance(acquisition, InformationGain) and acquisition.target_noise_variance is not None:
        noise = acquisition.target_noise_variance
    before = posterior.variance(rows)[:, None] - (falls.cumsum(dim=1) - falls)
    known = before <= _KNOWN * rows.square().sum(dim=1, keepdim=True)
    # A target of weight 0 is observed with infinite noise: it takes no part.
    observed = before.where(~known, 1.0) + noise / weights[:, None]
    share = (falls / observed).clamp_(0.0, 1.0 - 2.0**-52).masked_fill_(known | (weights == 0)[:, None], 0.0)
    return share.neg_().log1p_().mul_(-0.5)


def _foremost(best: TargetShares, indices: Tensor, gains: Tensor, count: int) -> TargetShares:
    """Return the largest of what was found so far and of further targets (n x m)."""
    if gains.shape[1] > count:
        top = gains.sort(dim=1, descending=True, stable=True)
        gains, indices = top.values[:, :count], indices.gather(1, top.indices[:, :count])
    values, names = torch.cat([best.shares, gains], dim=1), torch.cat([best.indices, indices], dim=1)
    order = values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return TargetShares(names.gather(1, order), values.gather(1, order))
