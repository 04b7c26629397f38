"""The rows the driver holds: candidates for speculation, with exact float64 scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Scores


class CandidateSet:
    """Candidates, each with its features in float64 and its scores given the picks; their order means nothing.

    Features live in one buffer with spare room. A set comes and goes with every pass, and copying all of it each
    time would cost more than the speculation itself: rows are appended in place, and holes filled from the end.
    """

    def __init__(self, dim: int) -> None:
        self._buffer = torch.empty(0, dim, dtype=torch.float64)
        self.positions = np.empty(0, dtype=np.int64)
        self.ids = np.empty(0, dtype=np.int64)
        self.norms = torch.empty(0, dtype=torch.float64)
        self.scores = Scores(self.norms, self.norms)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def features(self) -> Tensor:
        """Features, k x D float64: a view that the next `add` or `keep` overwrites."""
        return self._buffer[: len(self)]

    def add(self, positions: np.ndarray, ids: np.ndarray, features: Tensor, norms: Tensor, scores: Scores) -> None:
        """Append k rows with their features (k x D float64), squared norms and exact scores."""
        old = len(self)
        self._reserve(old + len(positions))
        self._buffer[old : old + len(positions)] = features
        self.positions = np.concatenate([self.positions, positions])
        self.ids = np.concatenate([self.ids, ids]) if len(self.ids) else ids
        self.norms = torch.cat([self.norms, norms])
        self.scores = Scores(*(torch.cat(pair) for pair in zip(self.scores, scores, strict=True)))

    def advance(self, decrements: Scores) -> None:
        """Subtract the decrements of accepted picks (k x m each) from the scores."""
        self.scores = Scores(*(s - d.sum(dim=1) for s, d in zip(self.scores, decrements, strict=True)))

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
        self.norms, self.scores = self.norms[index], Scores(self.scores.num[index], self.scores.den[index])
        return dropped

    def keep_best(self, limit: int, always: int) -> np.ndarray:
        """Keep the `limit` rows of largest ratio num / den, and row `always`; returns the positions dropped."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.topk(self.scores.num / self.scores.den, min(limit, len(self))).indices] = True
        mask[always] = True
        return self.keep(mask)

    def _reserve(self, size: int) -> None:
        if size > len(self._buffer):
            grown = torch.empty(size + size // 2, self._buffer.shape[1], dtype=torch.float64)
            grown[: len(self)] = self.features
            self._buffer = grown
