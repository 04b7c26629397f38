"""The dense float64 definitions: slow, obvious, and the oracle of every test.

Everything is formed: the joint kernel matrix of known rows, pool and targets, conditioned one observation at a time.
Memory O((N + M)^2), time O(n (N + M)^2 + n M^3). Ties as in `decision`: the smallest id among the rows within
the tie width of the largest gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ray_itl.core.posterior import Targets

DenseRule = Literal["itl", "vtl", "uncertainty"]


def condition_kernel(kernel: Tensor, index: int, noise_variance: float) -> Tensor:
    """Observe one point of a joint kernel matrix: K <- K - K_:i K_i: / (K_ii + s2)."""
    column = kernel[:, index]
    return kernel - torch.outer(column, column) / (column[index] + noise_variance)


def dense_kernel(pool: Tensor, targets: Targets, known: Tensor | None, noise_variance: float) -> Tensor:
    """Return the joint kernel matrix of (pool, targets), conditioned on the known rows: (N + M) x (N + M)."""
    rows = torch.cat([pool, targets.rows])
    kernel = rows @ rows.mT
    if known is not None and len(known):
        cross = rows @ known.mT
        gram = known @ known.mT + noise_variance * torch.eye(len(known), dtype=rows.dtype)
        kernel = kernel - cross @ torch.linalg.solve(gram, cross.mT)
    return (kernel + kernel.mT) / 2


def dense_gains(
    rule: DenseRule, kernel: Tensor, num_pool: int, weights: Tensor, noise_variance: float, target_noise: float
) -> Tensor:
    """Return the gain of every pool row by the definition of the rule (see `acquisitions`): N.

    Args:
        rule: Which definition.
        kernel: Joint kernel of (pool, targets) given everything observed so far.
        num_pool: N; rows after the first N are targets.
        weights: M target weights; a target's noise variance is target_noise / weight.
        noise_variance: s2.
        target_noise: s2A >= 0 (ITL only); at 0 the pseudo-inverse of the targets' kernel is used.
    """
    variance = kernel.diagonal()[:num_pool].clamp_min(0)
    if rule == "uncertainty":
        return 0.5 * torch.log1p(variance / noise_variance)
    present = weights > 0
    cross = kernel[:num_pool, num_pool:][:, present]
    if rule == "vtl":
        return (cross.square() * weights[present]).sum(dim=1) / (variance + noise_variance)
    gram = kernel[num_pool:, num_pool:][present][:, present]
    if target_noise > 0:
        solved = torch.linalg.solve(gram + torch.diag(target_noise / weights[present]), cross.mT)
    else:
        solved = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ cross.mT
    removed = (cross * solved.mT).sum(dim=1)
    given_targets = (variance - removed).clamp_min(0)
    return 0.5 * torch.log1p((variance - given_targets) / (given_targets + noise_variance))


def joint_information(kernel: Tensor, a: Sequence[int], x: Sequence[int], noise_variance: float) -> float:
    """Return I(f_A; y_X) = 1/2 log(|K_XX + s2 I| / |K_XX - K_XA K_AA^+ K_AX + s2 I|) in nats, by determinants."""
    k_xx, k_xa, k_aa = kernel[x][:, x], kernel[x][:, a], kernel[a][:, a]
    given = k_xx - k_xa @ torch.linalg.pinv(k_aa, rtol=1e-10, hermitian=True) @ k_xa.mT
    noise = noise_variance * torch.eye(len(x), dtype=kernel.dtype)
    return 0.5 * float(torch.logdet(k_xx + noise) - torch.logdet(given + noise))


def one_pass_per_pick(
    pool: Tensor,
    targets: Targets,
    n: int,
    noise_variance: float,
    on_pick: Callable[[int, float], None] | None = None,
) -> list[int]:
    """Careful plain greedy ITL (eq. 44) in weight space: two rank-one updates and one pass over the pool per pick.

    What everybody does, in the pool's own dtype; in float64 a second oracle for pools too large for the dense one.
    Ties go to the smaller index. O(n N D), state two numbers a row.
    """
    dtype = pool.dtype
    weighted = targets.weighted
    gram = weighted @ weighted.mT + noise_variance * torch.eye(len(weighted), dtype=torch.float64)
    factor = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), weighted, upper=False)
    s = torch.eye(pool.shape[1], dtype=torch.float64)
    sa = s - factor.mT @ factor
    v = pool.square().sum(dim=1)
    u = v - (pool @ factor.mT.to(dtype)).square().sum(dim=1)
    picks: list[int] = []
    available = torch.zeros(len(pool), dtype=dtype)
    for _ in range(n):
        ratio = (v + noise_variance) / (u + noise_variance) + available
        index = int(ratio.argmax())
        y = pool[index].to(torch.float64)
        w = s @ y / (y @ s @ y + noise_variance).sqrt()
        wa = sa @ y / (y @ sa @ y + noise_variance).sqrt()
        s, sa = s - torch.outer(w, w), sa - torch.outer(wa, wa)
        dots = pool @ torch.stack([w, wa], dim=1).to(dtype)
        v -= dots[:, 0].square()
        u -= dots[:, 1].square()
        available[index] = float("-inf")
        picks.append(index)
        if on_pick is not None:
            on_pick(index, 0.5 * float(ratio[index].log()))
    return picks
