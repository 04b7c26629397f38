"""The arithmetic of verification: one chunk of rows against one block of speculated picks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition
from ray_itl.core.messages import Start


@dataclass(frozen=True)
class BlockKernel:
    """A block prepared once for many chunks: a product, its squares, and a triangular product.

    For a chunk X (n x D): P = X W (n x tB), in place P <- decrements (mostly P^2), and
    G = [num - c_num, den - c_den, |x|^2, 1] H + P T, where G[i, k] > 0 exactly if row i may beat step k.
    Cumulative sums over the steps before k are columns of the triangular T, so no logarithm, division or cumulative
    sum runs per row. The constants c (noise variances) enter H in float64: a large noise must not round the scores.
    """

    weights: Tensor
    """W, D x (num_tracks * B), in the screening precision on the shard's device."""
    head: Tensor
    """H, 4 x B: 1, -tau_k, the error band of step k, and c_num - tau_k c_den."""
    tail: Tensor
    """T, (num_tracks * B) x B."""
    start: Start

    @classmethod
    def prepare(cls, start: Start, columns: Tensor, thresholds: Tensor, device: torch.device) -> BlockKernel:
        """Build W, H and T from columns (D x num_tracks x B float64) and thresholds (B)."""
        acquisition = start.acquisition
        dim, tracks, size = columns.shape
        open_step = torch.isfinite(thresholds)
        tau = thresholds.where(open_step, 0.0)
        num_magnitude, den_magnitude = start.magnitudes
        band = start.band * (num_magnitude + tau * den_magnitude)
        constant = start.num.offset - tau * start.den.offset
        head = torch.stack([torch.ones_like(tau), -tau, band, constant]) * open_step
        earlier = torch.ones(size, size, dtype=torch.float64).triu(1) * open_step
        tail = torch.zeros(tracks, size, size, dtype=torch.float64)
        tail[acquisition.num_track] -= earlier
        if acquisition.den_track is not None:
            tail[acquisition.den_track] += earlier * tau
        return cls(
            columns.reshape(dim, tracks * size).to(device, start.dtype),
            head.to(device, start.dtype),
            tail.reshape(tracks * size, size).to(device, start.dtype),
            start,
        )

    def decrements(self, rows: Tensor) -> Tensor:
        """Return what every step subtracts from each row (n x D -> n x num_tracks x B)."""
        return row_decrements(self.start.acquisition, rows, self.weights)

    def base(self, num: Tensor, den: Tensor, norms: Tensor) -> Tensor:
        """Return G (n x B) without the decrements, from num - c_num, den - c_den (float64) and squared norms."""
        state = torch.stack([num, den, norms.to(num.dtype), torch.ones_like(num)], dim=1)
        return state.to(self.head.dtype) @ self.head

    def margins(self, num: Tensor, den: Tensor, norms: Tensor, decrements: Tensor) -> Tensor:
        """Return G (n x B)."""
        return self.base(num, den, norms).addmm_(decrements.flatten(1), self.tail)


def row_decrements(acquisition: Acquisition, rows: Tensor, weights: Tensor) -> Tensor:
    """Return decrements n x num_tracks x B of rows (n x D) for weights D x (num_tracks * B)."""
    return acquisition.products_((rows @ weights).view(rows.shape[0], acquisition.num_tracks, -1))
