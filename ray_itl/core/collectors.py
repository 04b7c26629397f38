"""Bounded lists that a shard fills during one pass over its rows: memory must not depend on how close the rows are.

`ChallengerList`: rows that may beat a speculated pick. `TiedRows`: those that an exact search found near the best.
`RivalList`: rows that may be the runner-up of some step. `drop_duplicates`: of equal rows, few are worth proposing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores, tie_width

LIMIT = 64
"""Rows kept for a step at most, besides the best."""
_SPARE_PAIRS = 1 << 18


class RivalList:
    """Pairs of a step and a row whose value there (its gain over its price) may be the largest, or tie with it.

    Of more than `LIMIT` such rows at a step, those of the smallest ids stay (ties go to them), and the best one.
    """

    def __init__(self, num_steps: int, ids: np.ndarray, gain_scale: float) -> None:
        """Begin with no rows.

        Args:
            num_steps: n.
            ids: Of all rows, by index.
            gain_scale: See `ScoreSpec`.
        """
        self.best = torch.full((num_steps,), float("-inf"), dtype=torch.float64)
        """For each step a value that some row surely has."""
        self._ids = ids
        self._gain_scale = gain_scale
        self._pairs = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))]
        self._pairs_left = _SPARE_PAIRS + 4 * LIMIT * num_steps

    def add(self, first_step: int, indices: Tensor, gains: Tensor, errors: Tensor, prices: Tensor) -> None:
        """Look at k rows at b steps.

        Args:
            first_step: The first of the steps.
            indices: Of the rows, k int64.
            gains: k x b float64; -inf for a row that could not be picked.
            errors: By how much each gain may be off, k x b.
            prices: What the rows' gains are divided by, k.
        """
        steps = slice(first_step, first_step + gains.shape[1])
        self.best[steps] = torch.maximum(self.best[steps], ((gains - errors) / prices[:, None]).amax(dim=0))
        reach = gains + errors
        near = (reach >= self._floors(self.best[steps], prices[:, None])) & ~torch.isneginf(gains)
        if int(near.sum(dim=0).max()) > LIMIT:
            near = self._first_ids(near, indices, reach / prices[:, None])
        rows, columns = torch.nonzero(near, as_tuple=True)
        found = (columns + first_step).numpy(), indices[rows].numpy()
        self._pairs.append((*found, reach[rows, columns].numpy(), prices[rows].numpy()))
        self._pairs_left -= len(rows)
        if self._pairs_left < 0:
            self._compact()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs: steps, ascending, and indices of rows."""
        self._compact()
        return self._pairs[0][:2]

    def _floors(self, best: Tensor, prices: Tensor) -> Tensor:
        """Return the gains from which rows of some prices tie with values."""
        needed = best * prices
        return needed - tie_width(needed, self._gain_scale)

    def _first_ids(self, near: Tensor, indices: Tensor, values: Tensor) -> Tensor:
        """Keep of each column's rows those of the smallest ids, and the best."""
        order = torch.from_numpy(np.argsort(self._ids[indices.numpy()], kind="stable"))
        kept = torch.zeros_like(near)
        kept[order] = near[order] & (near[order].cumsum(dim=0) <= LIMIT)
        best = values.argmax(dim=0)
        columns = torch.arange(near.shape[1])
        kept[best, columns] = near[best, columns]
        return kept

    def _compact(self) -> None:
        """Drop pairs that the best has overtaken since, and those beyond the limit.

        What is left has at most `LIMIT` + 1 pairs a step, so that this happens seldom: after `_SPARE_PAIRS` additions.
        """
        steps, indices, reach, prices = (np.concatenate(column) for column in zip(*self._pairs, strict=True))
        floors = self._floors(self.best[torch.from_numpy(steps)], torch.from_numpy(prices))
        keep = reach >= floors.numpy()
        steps, indices, reach, prices = steps[keep], indices[keep], reach[keep], prices[keep]
        # By step, then by id: of rows that tie the smallest id wins, so those that are dropped could only lose a tie.
        by_id = np.argsort(self._ids[indices], kind="stable")
        order = by_id[np.argsort(steps[by_id], kind="stable")]
        steps, indices, reach, prices = steps[order], indices[order], reach[order], prices[order]
        firsts = np.searchsorted(steps, np.arange(len(self.best)))
        keep = np.arange(len(steps)) - firsts[steps] < LIMIT
        # Where more rows than the limit are too close to tell apart the smallest ids may not hold the best one.
        by_value = np.lexsort((-reach / prices, steps))
        keep[by_value[np.unique(steps[by_value], return_index=True)[1]]] = True
        self._pairs = [(steps[keep], indices[keep], reach[keep], prices[keep])]
        self._pairs_left = _SPARE_PAIRS + 4 * LIMIT * len(self.best) - int(keep.sum())


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
        """Add k rows.

        Args:
            indices: k int64.
            challenges: Which steps each row challenges, k x B bool; at least one.
            scores: Before the block, K times k.
        """
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


_COPIES_KEPT = 2


def drop_duplicates(facts: Sequence[Tensor], ids: np.ndarray) -> np.ndarray:
    """Return the places, ascending, of at most two (of the smallest ids) of rows that agree in all facts.

    Args:
        facts: Each k numbers, compared in float32.
        ids: k.

    O(k log k).
    """
    key = torch.stack([fact.to(torch.float64) for fact in facts]).to(torch.float32).cpu().numpy()
    by_id = np.argsort(ids, kind="stable")
    order = np.lexsort((np.argsort(by_id, kind="stable"), *key))
    new = np.ones(len(order), dtype=bool)
    new[_COPIES_KEPT:] = (key[:, order[_COPIES_KEPT:]] != key[:, order[:-_COPIES_KEPT]]).any(axis=0)
    return np.sort(order[new], kind="stable")


@dataclass(frozen=True)
class TiedRows:
    """Rows that come close to the best of their shard."""

    gains: Tensor
    """Exact, k float64."""
    indices: Tensor
    """k int64."""
    gain_scale: float
    """See `ScoreSpec`."""

    def tied_with(self, best: float, prices: Tensor) -> Tensor:
        """Return the indices of rows whose gain over price ties with a value, or beats it."""
        needed = best * prices
        return self.indices[self.gains >= needed - tie_width(needed, self.gain_scale)]
