"""The dense float64 definitions: slow, obvious, and what tests and `ray-itl verify` compare with.

Everything is formed: the joint kernel matrix of known rows, pool and targets, conditioned one observation at a time.
Memory O((N + M)^2), time O(n (N + M)^2 + n M^3). Ties as in `decision`: the smallest id among the rows within
the tie width of the largest gain.

Reference: [TAL] Huebotter et al., "Transductive Active Learning: Theory and Applications", NeurIPS 2024,
arXiv 2402.15898.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ray_itl.core.posterior import Targets

DenseGains = Callable[[Tensor, int, Tensor, float, float], Tensor]
"""(kernel, num_pool, weights, noise_variance, target_noise) -> the gain of every pool row, N float64.

kernel: the joint kernel matrix of (pool, targets) given everything observed so far; rows after the first num_pool are
targets. weights: of the M targets, by which their noise variance target_noise is divided. noise_variance: s2 > 0.
target_noise: s2A >= 0.
"""


def condition_kernel(kernel: Tensor, index: int, noise_variance: float) -> Tensor:
    """Return a joint kernel matrix after an observation of point i: K - K_:i K_i: / (K_ii + s2)."""
    column = kernel[:, index]
    return kernel - torch.outer(column, column) / (column[index] + noise_variance)


def dense_kernel(pool: Tensor, targets: Targets, known: Tensor | None, noise_variance: float) -> Tensor:
    """Return the joint kernel matrix of (pool, targets), conditioned on the known rows.

    Args:
        pool: N x D float64.
        targets: M rows.
        known: Rows observed with noise, K x D, or None.
        noise_variance: s2 > 0.

    Returns:
        (N + M) x (N + M). O((N + M)^2 (D + K)).
    """
    rows = torch.cat([pool, targets.rows])
    kernel = rows @ rows.mT
    if known is not None and len(known):
        cross = rows @ known.mT
        gram = known @ known.mT + noise_variance * torch.eye(len(known), dtype=rows.dtype)
        kernel = kernel - cross @ torch.linalg.solve(gram, cross.mT)
    return (kernel + kernel.mT) / 2


def _itl_gains(kernel: Tensor, num_pool: int, weights: Tensor, noise_variance: float, target_noise: float) -> Tensor:
    """1/2 log(k(x, x) + s2) - 1/2 log(k(x, x | A) + s2), the targets A observed with variance s2A / w ([TAL], eq. 44).

    At s2A = 0 (eq. 43) the pseudo-inverse of the targets' kernel is used.
    """
    variance, cross, present = _blocks(kernel, num_pool, weights)
    gram = kernel[num_pool:, num_pool:][present][:, present]
    if target_noise > 0:
        solved = torch.linalg.solve(gram + torch.diag(target_noise / weights[present]), cross.mT)
    else:
        solved = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ cross.mT
    removed = (cross * solved.mT).sum(dim=1)
    given_targets = (variance - removed).clamp_min(0)
    return 0.5 * torch.log1p((variance - given_targets) / (given_targets + noise_variance))


def _vtl_gains(kernel: Tensor, num_pool: int, weights: Tensor, noise_variance: float, target_noise: float) -> Tensor:
    """sum_a w_a k(a, x)^2 / (k(x, x) + s2)."""
    del target_noise
    variance, cross, present = _blocks(kernel, num_pool, weights)
    return (cross.square() * weights[present]).sum(dim=1) / (variance + noise_variance)


def _uncertainty_gains(
    kernel: Tensor, num_pool: int, weights: Tensor, noise_variance: float, target_noise: float
) -> Tensor:
    """1/2 log(1 + k(x, x) / s2)."""
    del target_noise
    return 0.5 * torch.log1p(_blocks(kernel, num_pool, weights)[0] / noise_variance)


def _blocks(kernel: Tensor, num_pool: int, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return k(x, x) of the pool (N), k(x, a) for the targets of positive weight (N x m), and which those are (M)."""
    present = weights > 0
    return kernel.diagonal()[:num_pool].clamp_min(0), kernel[:num_pool, num_pool:][:, present], present


DENSE_GAINS: dict[str, DenseGains] = {"itl": _itl_gains, "vtl": _vtl_gains, "uncertainty": _uncertainty_gains}
"""The definition of every rule of `RULES`."""


def dense_gains(
    rule: str, kernel: Tensor, num_pool: int, weights: Tensor, noise_variance: float, target_noise: float
) -> Tensor:
    """Return the gain of every pool row by the definition of a rule of `DENSE_GAINS` (see `DenseGains`): N."""
    return DENSE_GAINS[rule](kernel, num_pool, weights, noise_variance, target_noise)


def joint_information(kernel: Tensor, a: Sequence[int], x: Sequence[int], noise_variance: float) -> float:
    """Return I(f_A; y_X) = 1/2 log(|K_XX + s2 I| / |K_XX - K_XA K_AA^+ K_AX + s2 I|) in nats, by determinants.

    Args:
        kernel: A joint kernel matrix.
        a: Places of the targets in it.
        x: Places of the observed rows in it.
        noise_variance: s2 > 0.
    """
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
    Ties go to the smaller index.

    Args:
        pool: N x D of any float type.
        targets: The target sample.
        n: Number of picks.
        noise_variance: s2 > 0.
        on_pick: Told the index and the gain of each pick.

    Returns:
        Indices of the picks in order. O(n N D), state two numbers a row.
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
