"""The arithmetic of verification: one chunk of rows against one block of speculated picks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, Scores
from ray_itl.core.messages import ScoreSpec


@dataclass(frozen=True)
class BlockKernel(ABC):
    """A block prepared once for many chunks."""

    start: ScoreSpec
    weights: Tensor
    """W, D x (num_tracks * B), in the screening precision on the shard's device."""

    def decrements(self, rows: Tensor) -> Tensor:
        """Return what every step subtracts from each row (n x D -> n x num_tracks x B)."""
        return row_decrements(self.start.acquisition, rows, self.weights)

    @abstractmethod
    def margins(self, scores: Scores, norms: Tensor, costs: Tensor | None, decrements: Tensor | None) -> Tensor:
        """Return G (n x B), where G[i, k] > 0 if row i may beat step k.

        Args:
            scores: Before the block, K times n float64.
            norms: |x|^2, n.
            costs: n float64, or None where every row costs 1.
            decrements: n x num_tracks x B; None for scores that are those of the (one) step already.
        """


def prepare_kernel(start: ScoreSpec, columns: Tensor, values: Tensor, device: torch.device) -> BlockKernel:
    """Return the kernel of a block.

    Args:
        start: The scores and the precision of the screen.
        columns: What each speculated pick subtracts, D x num_tracks x B float64.
        values: Of the picks, B float64.
        device: Of the shard.
    """
    kind = LinearKernel if start.screens_linearly else GainKernel
    return kind.prepare(start, columns, values, device)


@dataclass(frozen=True)
class LinearKernel(BlockKernel):
    """Where "gains more than g" is linear in the scores: a product, its squares, and a triangular product.

    For a chunk X (n x D): P = X W (n x tB), in place P <- decrements (mostly P^2), and
    G = [scores, |x|^2, 1] H + P T. Cumulative sums over the steps before k are columns of the triangular T, so no
    logarithm, division or cumulative sum runs per row. The constants (noise variances) enter H in float64: a large
    noise must not round the scores.
    """

    head: Tensor
    """H, (K + 2) x B: the coefficients of the scores, the error band of step k, and the constants."""
    tail: Tensor
    """T, (num_tracks * B) x B."""

    @classmethod
    def prepare(cls, start: ScoreSpec, columns: Tensor, values: Tensor, device: torch.device) -> LinearKernel:
        """Build W, H and T."""
        acquisition = start.acquisition
        dim, tracks, size = columns.shape
        # No row can beat a pick that is decided (of infinite value): all zeros, so that no margin is positive.
        open_step = torch.isfinite(values)
        linear = acquisition.linear(start.needed(values.where(open_step, 0.0)))
        assert linear is not None, "another kernel is for rules that are not linear"
        coefficients = linear.coefficients * open_step
        magnitudes = torch.tensor(start.magnitudes, dtype=torch.float64)
        band, constants = start.band * (magnitudes @ coefficients.abs()), linear.constants * open_step
        # Step k is to see a row's scores less what the steps before k take: columns of the strict upper triangle.
        earlier = torch.ones(size, size, dtype=torch.float64).triu(1)
        tail = torch.zeros(tracks, size, size, dtype=torch.float64)
        for track, coefficient in zip(acquisition.score_tracks, coefficients, strict=True):
            tail[track] -= earlier * coefficient
        return cls(
            start,
            columns.reshape(dim, tracks * size).to(device, start.dtype),
            torch.cat([coefficients, band[None], constants[None]]).to(device, start.dtype),
            tail.reshape(tracks * size, size).to(device, start.dtype),
        )

    def margins(self, scores: Scores, norms: Tensor, costs: Tensor | None, decrements: Tensor | None) -> Tensor:
        """See `BlockKernel`; in units of a score."""
        del costs
        state = torch.stack([*scores, norms.to(scores[0].dtype), torch.ones_like(scores[0])], dim=1)
        base = state.to(self.head.dtype) @ self.head
        return base if decrements is None else base.addmm_(decrements.flatten(1), self.tail)


@dataclass(frozen=True)
class GainKernel(BlockKernel):
    """Any rule, and rows of different prices: the gain of every row at every step, against what that row needs."""

    earlier: Tensor
    """B x B, 1 where the row's step comes before the column's."""
    values: Tensor
    """B."""

    @classmethod
    def prepare(cls, start: ScoreSpec, columns: Tensor, values: Tensor, device: torch.device) -> GainKernel:
        """Build W and the triangle."""
        size = columns.shape[2]
        earlier = torch.ones(size, size, dtype=torch.float64).triu(1)
        return cls(start, columns.flatten(1).to(device, start.dtype), earlier.to(device, start.dtype), values)

    def margins(self, scores: Scores, norms: Tensor, costs: Tensor | None, decrements: Tensor | None) -> Tensor:
        """See `BlockKernel`; in units of gain."""
        start, acquisition = self.start, self.start.acquisition
        at_step = [score.to(self.weights.dtype)[:, None] for score in scores]
        if decrements is not None:
            lost = decrements @ self.earlier
            at_step = [score - lost[:, t] for score, t in zip(at_step, acquisition.score_tracks, strict=True)]
        band = (start.band * norms.to(self.weights.dtype))[:, None]
        errors = tuple(band * magnitude for magnitude in start.magnitudes)
        # The gain that a row might truly have: its scores may each be off by the band.
        reach = torch.add(*acquisition.bounded_gain(tuple(at_step), errors))
        values = self.values.to(norms.device)
        if costs is None or start.rules is None or not start.rules.per_cost:
            needed = start.needed(values)[None]
        else:
            needed = start.needed(values[None], costs[:, None])
        return reach - needed.to(reach.dtype)


def row_decrements(acquisition: Acquisition, rows: Tensor, weights: Tensor) -> Tensor:
    """Return what steps subtract from rows.

    Args:
        acquisition: The rule.
        rows: n x D.
        weights: Of B steps, D x (num_tracks * B).

    Returns:
        n x num_tracks x B. O(n D B num_tracks).
    """
    return acquisition.products_((rows @ weights).view(rows.shape[0], acquisition.num_tracks, -1))
