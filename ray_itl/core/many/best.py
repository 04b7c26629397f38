"""The best rows of many queries, gathered chunk by chunk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class BestRows:
    """For each of Q queries the `count` rows of the largest scores so far."""

    def __init__(self, num_queries: int, count: int) -> None:
        """Begin with no rows."""
        self._num_queries, self._count = num_queries, count
        self._floors = torch.zeros(num_queries)
        self._queries: list[np.ndarray] = []
        self._indices: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._pending = 0

    def add(self, first: int, scores: Tensor) -> None:
        """Look at rows from index `first` on; n x Q scores, below 0 for rows that are passed over."""
        above = torch.nonzero(scores >= self._floors.to(scores.device, scores.dtype))
        if not len(above):
            return
        rows, queries = above.unbind(dim=1)
        self._queries.append(queries.cpu().numpy())
        self._indices.append(rows.cpu().numpy() + first)
        self._scores.append(scores[rows, queries].cpu().to(torch.float32).numpy())
        self._pending += len(above)
        if self._pending > 2 * self._count * self._num_queries + 4096:
            self._compact()

    def result(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each query (indices, scores), best first; equal scores by index."""
        if not self._queries:
            return [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in range(self._num_queries)]
        queries, indices, scores = self._compact()
        ends = np.searchsorted(queries, np.arange(1, self._num_queries))
        return list(zip(np.split(indices, ends), np.split(scores, ends), strict=True))

    def _compact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        queries, indices, scores = (np.concatenate(parts) for parts in (self._queries, self._indices, self._scores))
        order = np.lexsort((indices, -scores, queries))
        queries, indices, scores = queries[order], indices[order], scores[order]
        firsts = np.searchsorted(queries, np.arange(self._num_queries))
        ranks = np.arange(len(queries)) - firsts[queries]
        keep = ranks < self._count
        full = ranks == self._count - 1
        self._floors[torch.from_numpy(queries[full])] = torch.from_numpy(scores[full])
        queries, indices, scores = queries[keep], indices[keep], scores[keep]
        self._queries, self._indices, self._scores, self._pending = [queries], [indices], [scores], 0
        return queries, indices, scores
