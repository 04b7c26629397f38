"""The bounded list of rows that may beat a speculated pick, collected during one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.core.acquisition import Scores


class ChallengerList:
    """Rows that challenge some step of a block, at most `limit` of them.

    When more come, the block is cut: steps from `verified_steps` on are given up, together with the rows that
    challenge only those. So the list is always complete for the steps below `verified_steps`.
    """

    def __init__(self, num_steps: int, limit: int) -> None:
        self.verified_steps = num_steps
        self._limit = limit
        self._parts: list[tuple[Tensor, ...]] = []
        self._count = 0

    def add(self, indices: Tensor, challenges: Tensor, scores: Scores) -> None:
        """Add rows: indices (k), which steps each challenges (k x B bool, at least one), scores before the block."""
        first = challenges.to(torch.uint8).argmax(dim=1)
        keep = first < self.verified_steps
        self._parts.append((indices[keep], first[keep], *(score[keep] for score in scores)))
        self._count += int(keep.sum())
        if self._count > self._limit:
            self._cut()

    def result(self, num_scores: int) -> tuple[Tensor, Scores]:
        """Return the rows' indices and their scores before the block, in order of index."""
        if not self._parts:
            empty = torch.empty(0, dtype=torch.float64)
            return torch.empty(0, dtype=torch.int64), (empty,) * num_scores
        indices, first, *scores = (torch.cat(part) for part in zip(*self._parts, strict=True))
        keep = first < self.verified_steps
        return indices[keep], tuple(score[keep] for score in scores)

    def _cut(self) -> None:
        """Lower `verified_steps` to the largest value that keeps the list within its limit."""
        first = torch.cat([part[1] for part in self._parts])
        per_step = torch.bincount(first, minlength=self.verified_steps).cumsum(0)
        self.verified_steps = int((per_step <= self._limit).sum())
        keep = [part[1] < self.verified_steps for part in self._parts]
        self._parts = [tuple(column[k] for column in part) for part, k in zip(self._parts, keep, strict=True)]
        self._count = sum(int(k.sum()) for k in keep)
