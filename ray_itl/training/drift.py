"""How far embeddings moved between two models, on a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ray_itl.errors import InputError


@dataclass(frozen=True)
class Drift:
    """Distances between two embeddings of the same rows."""

    mean_cosine: float
    """Mean over rows of cos(x, x'): 1 where no direction changed; meaningless for networks trained from new weights."""
    kernel_change: float
    """|K - K'|_F / |K|_F with K = X X': 0 where selection sees no difference; rotations do not count."""
    cka: float
    """Linear centred kernel alignment (Kornblith et al., 2019): 1 where the kernels agree up to scale and shift."""


def measure_drift(before: Tensor, after: Tensor) -> Drift:
    """Compare two embeddings of n rows.

    Args:
        before: X, n x D.
        after: X', n x D', row by row the same; D' may differ from D, and the mean cosine is then nan.

    Returns:
        Where X or centred X is all zeros, the ratio to it is nan. O(n^2 (D + D')).

    Raises:
        InputError: the numbers of rows differ.
    """
    if len(before) != len(after):
        raise InputError(f"drift compares the same rows, but one embedding has {len(before)} and one {len(after)}")
    x, y = before.to(torch.float64), after.to(torch.float64)
    same_dim = x.shape[1] == y.shape[1]
    cosine = float(cosine_similarity(x, y, dim=1).mean()) if same_dim else float("nan")
    kernel, other = x @ x.mT, y @ y.mT
    change = float((kernel - other).norm() / kernel.norm())
    cx, cy = x - x.mean(dim=0), y - y.mean(dim=0)
    alignment = (cx.mT @ cy).square().sum() / ((cx.mT @ cx).norm() * (cy.mT @ cy).norm())
    return Drift(cosine, change, float(alignment))
