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
    """Pairs of a step and a row whose gain there may be the largest, or tie with it.

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
        """For each step a gain that some row surely has."""
        self._ids = ids
        self._gain_scale = gain_scale
        self._pairs = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))]
        self._room = _SPARE_PAIRS + 4 * LIMIT * num_steps

    def add(self, first_step: int, indices: Tensor, gains: Tensor, errors: Tensor) -> None:
        """Look at the gains of rows (k) at steps from `first_step` on (k x b, -inf for none), each off by its error."""
        steps = slice(first_step, first_step + gains.shape[1])
        self.best[steps] = torch.maximum(self.best[steps], (gains - errors).amax(dim=0))
        reach = gains + errors
        near = (reach >= self._floors(steps)) & ~torch.isneginf(gains)
        if int(near.sum(dim=0).max()) > LIMIT:
            near = self._first_ids(near, indices, reach)
        rows, columns = torch.nonzero(near, as_tuple=True)
        self._pairs.append(((columns + first_step).numpy(), indices[rows].numpy(), reach[rows, columns].numpy()))
        self._room -= len(rows)
        if self._room < 0:
            self._compact()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs: steps, ascending, and indices of rows."""
        self._compact()
        return self._pairs[0][:2]

    def _floors(self, steps: slice) -> Tensor:
        return self.best[steps] - tie_width(self.best[steps], self._gain_scale)

    def _first_ids(self, near: Tensor, indices: Tensor, reach: Tensor) -> Tensor:
        """Keep of each column's rows those of the smallest ids, and the best."""
        order = torch.from_numpy(np.argsort(self._ids[indices.numpy()], kind="stable"))
        kept = torch.zeros_like(near)
        kept[order] = near[order] & (near[order].cumsum(dim=0) <= LIMIT)
        best = reach.argmax(dim=0)
        columns = torch.arange(near.shape[1])
        kept[best, columns] = near[best, columns]
        return kept

    def _compact(self) -> None:
        """Drop pairs that the best has overtaken since, and those beyond the limit."""
        steps, indices, reach = (np.concatenate(column) for column in zip(*self._pairs, strict=True))
        keep = reach >= self._floors(slice(None)).numpy()[steps]
        steps, indices, reach = steps[keep], indices[keep], reach[keep]
        by_id = np.argsort(self._ids[indices], kind="stable")
        order = by_id[np.argsort(steps[by_id], kind="stable")]
        steps, indices, reach = steps[order], indices[order], reach[order]
        firsts = np.searchsorted(steps, np.arange(len(self.best)))
        keep = np.arange(len(steps)) - firsts[steps] < LIMIT
        by_reach = np.lexsort((-reach, steps))
        keep[by_reach[np.unique(steps[by_reach], return_index=True)[1]]] = True
        self._pairs = [(steps[keep], indices[keep], reach[keep])]
        self._room = _SPARE_PAIRS + 4 * LIMIT * len(self.best) - int(keep.sum())
