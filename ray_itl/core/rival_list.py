"""For each step of a selection, the rows that may be the best at it, collected as rows are looked at."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import tie_width

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
            gain_scale: See `AcquisitionState`.
        """
        self.best = torch.full((num_steps,), float("-inf"), dtype=torch.float64)
        """For each step a value that some row surely has."""
        self._ids = ids
        self._gain_scale = gain_scale
        self._pairs = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))]
        self._room = _SPARE_PAIRS + 4 * LIMIT * num_steps

    def add(self, first_step: int, indices: Tensor, gains: Tensor, errors: Tensor, prices: Tensor) -> None:
        """Look at rows (k, of k prices) at steps from `first_step` on.

        Their gains are k x b, -inf for a row that could not be picked, each off by at most its error.
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
        self._room -= len(rows)
        if self._room < 0:
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
        """Drop pairs that the best has overtaken since, and those beyond the limit."""
        steps, indices, reach, prices = (np.concatenate(column) for column in zip(*self._pairs, strict=True))
        floors = self._floors(self.best[torch.from_numpy(steps)], torch.from_numpy(prices))
        keep = reach >= floors.numpy()
        steps, indices, reach, prices = steps[keep], indices[keep], reach[keep], prices[keep]
        by_id = np.argsort(self._ids[indices], kind="stable")
        order = by_id[np.argsort(steps[by_id], kind="stable")]
        steps, indices, reach, prices = steps[order], indices[order], reach[order], prices[order]
        firsts = np.searchsorted(steps, np.arange(len(self.best)))
        keep = np.arange(len(steps)) - firsts[steps] < LIMIT
        by_value = np.lexsort((-reach / prices, steps))
        keep[by_value[np.unique(steps[by_value], return_index=True)[1]]] = True
        self._pairs = [(steps[keep], indices[keep], reach[keep], prices[keep])]
        self._room = _SPARE_PAIRS + 4 * LIMIT * len(self.best) - int(keep.sum())
