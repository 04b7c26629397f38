"""The runner-up of every pick: which row comes first at each step if the pick is left out? One pass for all steps.

`Availability` says at which steps each row could have been picked; `find_rivals` screens and scores the rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Quadratic
from ray_itl.core.collectors import RivalList
from ray_itl.core.decision import TotalOrder
from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.messages import RivalQuery
from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.core.rules import Gate, cosines, unit_rows
from ray_itl.core.screening.copies import RowCopies
from ray_itl.core.screening.screen import Trial

_PICKS_AT_ONCE = 64


class Availability:
    """When each row could be picked: until it was, or was too similar to a pick, and where its cost allowed.

    What excludes a row for good is one number, the first step from which on it could not be picked: 4 bytes a row. What
    comes and goes with the steps is the gate of the query.
    """

    def __init__(
        self,
        query: RivalQuery,
        num_rows: int,
        first_position: int,
        costs_and_groups: CostsAndGroups | None,
        barred: Tensor | None,
    ) -> None:
        """Look at the rows from `first_position` on, with these costs and groups (None: all cost 1 and are alike).

        Rows that are `barred` (n bool) could never be picked.
        """
        self._rules = query.start.rules
        self._gate = query.gate
        self._features = query.features
        self._own = torch.from_numpy(query.picks - first_position)
        if self._rules is not None:
            self._costs_and_groups = costs_and_groups or CostsAndGroups.default(num_rows)
        self.until = torch.full((num_rows,), len(query.picks), dtype=torch.int32)
        """The first step from which on a row could not be picked, similarity aside: n int32."""
        if not query.replacement:
            inside = (self._own >= 0) & (self._own < num_rows)
            self.until[self._own[inside]] = torch.nonzero(inside).flatten().to(torch.int32)
        excluded = torch.from_numpy(query.excluded - first_position)
        self.until[excluded[(excluded >= 0) & (excluded < num_rows)]] = 0
        if barred is not None:
            self.until[barred.cpu()] = 0

    def costs(self, rows: slice | Tensor) -> Tensor | None:
        """Return the costs of rows; None where none matter."""
        return None if self._rules is None else self._costs_and_groups.costs[rows]

    def prices(self, indices: Tensor) -> Tensor:
        """Return by what the gains of rows are divided."""
        if self._rules is None:
            return torch.ones(len(indices), dtype=torch.float64)
        return self._rules.prices(self._costs_and_groups.costs[indices])

    def admitted(self, rows: slice | Tensor, steps: range) -> Tensor | None:
        """Return which of n rows could be paid for at some of the steps (n x b bool); None where all could."""
        if self._rules is None:
            return None
        gate = Gate(self._gate.max_costs[steps.start : steps.stop])
        return gate.admits(self._costs_and_groups.costs[rows], self._costs_and_groups.groups[rows])

    def until_with_similarity(self, indices: Tensor, features: Tensor) -> Tensor:
        """Return `until` of k rows (k x D float64), similarity included. O(k n D), bounded memory."""
        until = self.until[indices]
        if self._rules is None:
            return until
        for guard in self._rules.guards:
            until[guard.excludes(features)] = 0
        if self._rules.max_similarity is not None:
            self._keep_away_from_picks(until, features, self._rules.max_similarity)
        return until

    def _keep_away_from_picks(self, until: Tensor, features: Tensor, limit: float) -> None:
        """Lower `until` of rows (k, k x D) to the step after the first pick that they are too similar to."""
        for first in range(0, len(self._features), _PICKS_AT_ONCE):
            asked = torch.nonzero(until > first + 1).flatten()
            picks = unit_rows(self._features[first : first + _PICKS_AT_ONCE])
            close = cosines(features[asked], picks) > limit
            excluded = close.any(dim=1)
            after = first + 1 + close[excluded].to(torch.uint8).argmax(dim=1).to(torch.int32)
            until[asked[excluded]] = torch.minimum(until[asked[excluded]], after)

    def at(self, indices: Tensor, until: Tensor, steps: range) -> Tensor:
        """Return at which of the steps k rows of these `until` could have been picked beside the pick: k x b bool."""
        moments = torch.arange(steps.start, steps.stop)
        could = (moments[None] < until[:, None]) & (indices[:, None] != self._own[steps.start : steps.stop][None])
        admitted = self.admitted(indices, steps)
        return could if admitted is None else could & admitted


_BLOCK = 64
_FIRST_ROWS = 512


def find_rivals(
    features: FeatureStore,
    copies: RowCopies,
    ids: np.ndarray,
    norms: Tensor,
    first_position: int,
    query: RivalQuery,
    costs_and_groups: CostsAndGroups | None = None,
    barred: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a step and the index of a row that may be its runner-up among these rows (see `Rivals`).

    Every row is screened at every step against the best found so far, as `verify` does; rows that pass at some step are
    scored at all of them in float64.

    Args:
        features: Of N rows.
        copies: Of these rows, in the precision of the query's screen.
        ids: N.
        norms: |x|^2, N float64.
        first_position: Of the first row in the pool.
        query: The steps.
        costs_and_groups: Of the rows; None: every row costs 1, and all are of one group.
        barred: Which of the rows could never be picked, N bool; None: what the query says is all.

    Returns:
        (steps, indices), by step. One pass, O(N D n); memory for one chunk and 64 steps.
    """
    availability = Availability(query, len(ids), first_position, costs_and_groups, barred)
    search = _Search(features, copies, ids, norms, query, availability)
    # The first rows are scored unscreened, so that there is something to screen the others against.
    search.score(torch.arange(min(_FIRST_ROWS, len(ids))))
    for rows, chunk in copies.chunks():
        search.look_at(rows, chunk)
    return search.found.result()


class _Search:
    """The rivals found so far."""

    def __init__(
        self,
        features: FeatureStore,
        copies: RowCopies,
        ids: np.ndarray,
        norms: Tensor,
        query: RivalQuery,
        availability: Availability,
    ) -> None:
        self._features = features
        self._query = query
        self._norms = norms
        self._total_order = TotalOrder(query.start.acquisition, query.start.magnitudes, query.start.gain_scale)
        self._availability = availability
        self._trial = Trial(query.start, copies, norms, [columns for _, columns in self._blocks()])
        self.found = RivalList(query.columns.shape[2], ids, query.start.gain_scale)

    def look_at(self, rows: slice, chunk: Tensor) -> None:
        """Take in the rivals of one chunk of copies."""
        challenged = self._screen(rows, chunk) & (self._availability.until[rows] > 0)
        if rows.start < _FIRST_ROWS:
            challenged[: _FIRST_ROWS - rows.start] = False
        some = torch.nonzero(challenged).flatten()
        if len(some):
            self.score(some + rows.start)

    def _screen(self, rows: slice, chunk: Tensor) -> Tensor:
        """Return which rows may beat or tie with the best found so far at some step."""
        costs = self._availability.costs(rows)
        challenged = torch.zeros(len(chunk), dtype=torch.bool)
        best = [self.found.best[steps.start : steps.stop] for steps, _ in self._blocks()]
        for (steps, _), doubtful in zip(self._blocks(), self._trial.doubts(rows, chunk, best, costs), strict=True):
            admitted = self._availability.admitted(rows, steps)
            doubtful = doubtful.cpu()
            challenged |= doubtful if admitted is None else doubtful & admitted.any(dim=1)
        return challenged

    def score(self, indices: Tensor) -> None:
        """Score rows at every step in float64, and keep those that may be runners-up."""
        features = self._features.rows(indices.to(self._norms.device)).to("cpu", torch.float64)
        start, norms = self._query.start, self._norms[indices.to(self._norms.device)].cpu()
        until, prices = self._availability.until_with_similarity(indices, features), self._availability.prices(indices)
        scores = tuple(_values_of(form, features, norms) for form in start.quadratics)
        for steps, columns in self._blocks():
            dots = (features @ columns.flatten(1)).view(len(features), *columns.shape[1:])
            drops = self._total_order.decrements(dots)
            before = tuple(s[:, None] - (d.cumsum(dim=1) - d) for s, d in zip(scores, drops, strict=True))
            gains, errors = self._total_order.bounded_gains(before, norms[:, None])
            gains.masked_fill_(~self._availability.at(indices, until, steps), float("-inf"))
            self.found.add(steps.start, indices, gains, errors, prices)
            scores = tuple(s - d.sum(dim=1) for s, d in zip(scores, drops, strict=True))

    def _blocks(self) -> Iterator[tuple[range, Tensor]]:
        columns = self._query.columns
        for first in range(0, columns.shape[2], _BLOCK):
            part = columns[:, :, first : first + _BLOCK]
            yield range(first, first + part.shape[2]), part


def _values_of(form: Quadratic, features: Tensor, norms: Tensor) -> Tensor:
    """Return a quadratic form of rows, float64."""
    values = norms * form.scale
    if form.factor.shape[1]:
        products = features @ form.factor.to(features.device, features.dtype)
        values = values + form.sign * products.square_().sum(dim=1, dtype=torch.float64)
    return values
