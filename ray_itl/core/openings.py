"""At which steps of a selection that is over each row of a shard could have been picked."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.core.rival_query import RivalQuery
from ray_itl.core.row_rules import RowTraits
from ray_itl.core.rules import Gate, cosines, unit_rows

_PICKS_AT_ONCE = 64


class Openings:
    """A row could be picked until it was, or was barred for its likeness to a pick, and where its cost was within room.

    What bars a row for good is one number, the first step at which it could no longer be picked (its end): 4 bytes a
    row. What comes and goes with the steps is the gate of the query.
    """

    def __init__(self, query: RivalQuery, num_rows: int, first_position: int, traits: RowTraits | None) -> None:
        """Look at the rows from `first_position` on, with these costs and groups (None: all cost 1 and are alike)."""
        self._rules = query.start.rules
        self._gate = query.gate
        self._features = query.features
        self._own = torch.from_numpy(query.picks - first_position)
        if self._rules is not None:
            self._traits = traits or RowTraits.default(num_rows)
        self.ends = torch.full((num_rows,), len(query.picks), dtype=torch.int32)
        """Of every row, whatever it is like."""
        if not query.replacement:
            inside = (self._own >= 0) & (self._own < num_rows)
            self.ends[self._own[inside]] = torch.nonzero(inside).flatten().to(torch.int32)
        excluded = torch.from_numpy(query.excluded - first_position)
        self.ends[excluded[(excluded >= 0) & (excluded < num_rows)]] = 0

    def costs(self, rows: slice | Tensor) -> Tensor | None:
        """Return the costs of rows; None where none matter."""
        return None if self._rules is None else self._traits.costs[rows]

    def prices(self, indices: Tensor) -> Tensor:
        """Return by what the gains of rows are divided."""
        if self._rules is None:
            return torch.ones(len(indices), dtype=torch.float64)
        return self._rules.prices(self._traits.costs[indices])

    def admitted(self, rows: slice | Tensor, steps: range) -> Tensor | None:
        """Return which of n rows could be paid for at some of the steps (n x b bool); None where all could."""
        if self._rules is None:
            return None
        gate = Gate(self._gate.room[steps.start : steps.stop])
        return gate.admits(self._traits.costs[rows], self._traits.groups[rows])

    def ends_of(self, indices: Tensor, features: Tensor) -> Tensor:
        """Return the ends of k rows, of these features (k x D float64), likeness included. O(k n D), bounded memory."""
        ends = self.ends[indices]
        if self._rules is None:
            return ends
        for guard in self._rules.guards:
            ends[guard.bars(features)] = 0
        if self._rules.max_similarity is not None:
            self._keep_away_from_picks(ends, features, self._rules.max_similarity)
        return ends

    def _keep_away_from_picks(self, ends: Tensor, features: Tensor, limit: float) -> None:
        """Lower the ends of rows (k, k x D) to the step after the first pick that they are too like."""
        for first in range(0, len(self._features), _PICKS_AT_ONCE):
            asked = torch.nonzero(ends > first + 1).flatten()
            picks = unit_rows(self._features[first : first + _PICKS_AT_ONCE])
            close = cosines(features[asked], picks) > limit
            barred = close.any(dim=1)
            after = first + 1 + close[barred].to(torch.uint8).argmax(dim=1).to(torch.int32)
            ends[asked[barred]] = torch.minimum(ends[asked[barred]], after)

    def at(self, indices: Tensor, ends: Tensor, steps: range) -> Tensor:
        """Return at which of the steps k rows of these ends could have been picked beside the pick: k x b bool."""
        moments = torch.arange(steps.start, steps.stop)
        could = (moments[None] < ends[:, None]) & (indices[:, None] != self._own[steps.start : steps.stop][None])
        admitted = self.admitted(indices, steps)
        return could if admitted is None else could & admitted
