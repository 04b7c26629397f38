"""What the driver holds: rows of the pool that may be the next picks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.messages import RowBatch


class CandidateSet:
    """Candidates, each with its features in float64 and its scores given the picks; their order means nothing.

    Features live in one buffer with rows to spare. A set comes and goes with every pass, and copying all of it each
    time would cost more than the speculation itself: rows are appended in place, and holes filled from the end.
    """

    def __init__(self, dim: int, num_scores: int) -> None:
        self._buffer = torch.empty(0, dim, dtype=torch.float64)
        self.positions = np.empty(0, dtype=np.int64)
        self.ids = np.empty(0, dtype=np.int64)
        self.norms = torch.empty(0, dtype=torch.float64)
        self.costs = torch.empty(0, dtype=torch.float64)
        self.groups = torch.empty(0, dtype=torch.int64)
        self.scores: Scores = (self.norms,) * num_scores

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def features(self) -> Tensor:
        """Features, k x D float64: a view that the next `add` or `keep` overwrites."""
        return self._buffer[: len(self)]

    def add(self, batch: RowBatch, features: Tensor, norms: Tensor, scores: Scores) -> None:
        """Append the k rows of a batch.

        Args:
            batch: The rows.
            features: k x D float64.
            norms: |x|^2, k float64.
            scores: Exact, K times k.
        """
        old = len(self)
        self._reserve(old + len(batch))
        self._buffer[old : old + len(batch)] = features
        self.positions = np.concatenate([self.positions, batch.positions])
        self.ids = np.concatenate([self.ids, batch.ids]) if len(self.ids) else batch.ids
        self.norms = torch.cat([self.norms, norms])
        self.costs = torch.cat([self.costs, batch.costs])
        self.groups = torch.cat([self.groups, batch.groups])
        self.scores = tuple(torch.cat(pair) for pair in zip(self.scores, scores, strict=True))

    def keep(self, mask: Tensor) -> np.ndarray:
        """Keep only the rows of a mask (k bool); returns the positions dropped."""
        chosen = mask.numpy()
        dropped = self.positions[~chosen]
        size = len(self) - len(dropped)
        holes, movers = np.flatnonzero(~chosen[:size]), size + np.flatnonzero(chosen[size:])
        order = np.arange(size)
        order[holes] = movers
        self._buffer[torch.from_numpy(holes)] = self._buffer[torch.from_numpy(movers)]
        self.positions, self.ids = self.positions[order], self.ids[order]
        index = torch.from_numpy(order)
        self.norms, self.costs, self.groups = self.norms[index], self.costs[index], self.groups[index]
        self.scores = tuple(score[index] for score in self.scores)
        return dropped

    def keep_best(self, limit: int, values: Tensor, always: int | None) -> np.ndarray:
        """Keep the rows of largest value.

        Args:
            limit: How many.
            values: k.
            always: A row to keep whatever its value, if any.

        Returns:
            The positions dropped.
        """
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.topk(values, min(limit, len(self))).indices] = True
        if always is not None:
            mask[always] = True
        return self.keep(mask)

    def _reserve(self, size: int) -> None:
        if size > len(self._buffer):
            grown = torch.empty(size + size // 2, self._buffer.shape[1], dtype=torch.float64)
            grown[: len(self)] = self.features
            self._buffer = grown
