"""Which rows of a shard are worth speculating with: the best by what the screen knows of their scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.collectors import drop_duplicates
from ray_itl.core.messages import Request
from ray_itl.core.row_rules import RowRules
from ray_itl.core.screening.screen import Screen

_SCAN_ROWS = 1 << 18
_LARGEST = torch.finfo(torch.float64).max


class Proposer:
    """Chooses among n rows; marks in `held`, which is the shard's, what is excluded for good."""

    def __init__(self, screen: Screen, rules: RowRules | None, held: Tensor, norms: Tensor, ids: np.ndarray) -> None:
        """Look at the rows of a shard."""
        self._screen = screen
        self._rules = rules
        self._held = held
        self._norms = norms
        self._ids = ids

    def best(self, request: Request) -> Tensor:
        """Return indices of the best rows that nothing excludes, descending; none only if there is no other. O(n)."""
        if self._rules is None:
            return self._best(request)
        set_aside: list[Tensor] = []
        try:
            while True:
                chosen = self._best(request)
                available = self._rules.available(chosen, request.picks)  # marks in `held` what is excluded for good
                # A few are enough: the driver asks again. None would tell it that there is no row left.
                if not len(chosen) or bool(available.any()):
                    return chosen[available]
                # All are like picks that may yet be rejected: look past them now, offer them again another time.
                set_aside.append(chosen[~self._held[chosen]])
                self._held[chosen] = True
        finally:
            for indices in set_aside:
                self._held[indices] = False

    def _best(self, request: Request) -> Tensor:
        """Return indices of the best rows not held that may be picked, copies thinned out, in descending order."""
        count, num_rows = request.count, len(self._held)
        wanted, floor = 2 * count, float("-inf")
        values = torch.empty(0, dtype=torch.float64, device=self._norms.device)
        indices = torch.empty(0, dtype=torch.int64, device=self._norms.device)
        for first in range(0, num_rows if count > 0 else 0, _SCAN_ROWS):
            rows = slice(first, min(first + _SCAN_ROWS, num_rows))
            value = self._values(rows).masked_fill_(self._held[rows], float("-inf"))
            if self._rules is not None:
                value.masked_fill_(~self._rules.admitted(rows, request.gate), float("-inf"))
            near = torch.nonzero(value > floor).flatten()
            values, indices = torch.cat([values, value[near]]), torch.cat([indices, near + first])
            top = torch.topk(values, min(wanted, len(values)))
            values, indices = top.values, indices[top.indices]
            # Once the list is full, most rows of a chunk fall below its last and need no sorting.
            floor = float(values[-1]) if len(values) == wanted else floor
        indices = indices[torch.isfinite(values)]
        return self._thin_copies(indices)[:count] if count < num_rows else indices

    def _values(self, rows: slice) -> Tensor:
        """Return what rows are sorted by."""
        acquisition = self._screen.spec.acquisition
        scores = self._screen.scores(rows)
        if self._rules is not None and self._rules.rules.per_cost:
            values = acquisition.gain(scores) / self._rules.costs(rows)
        else:
            values = acquisition.order(scores)
        # Where rounding exceeds the noise a value may be no number; such a row must still be found in the end.
        return values.nan_to_num(nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)

    def _thin_copies(self, indices: Tensor) -> Tensor:
        """Keep at most two (of the smallest ids) of rows with the same scores: copies waste a proposal."""
        facts = [*self._screen.scores(indices), self._norms[indices]]
        if self._rules is not None:  # the cheaper copy, or one of another group, is no waste
            facts += [self._rules.costs(indices), self._rules.groups(indices)]
        kept = drop_duplicates(facts, self._ids[indices.cpu().numpy()])
        return indices[torch.as_tensor(kept, device=indices.device)]
