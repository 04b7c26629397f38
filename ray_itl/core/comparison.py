"""Candidates that took no part in some steps, compared with the picks that these steps made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState, Scores
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.criteria import Criteria
from ray_itl.core.limits import LimitState
from ray_itl.core.rules import Gate

_ROWS_AT_ONCE = 2048
_MANY_DOUBTS = 1 / 8
"""The share of candidates that float32 may leave in doubt: where it is more, all are scored exactly at once."""


@dataclass
class Stretch:
    """Steps that were made among a few of the candidates, which are all that may win the first step."""

    few: Tensor
    """Their places."""
    limit_states: list[LimitState]
    """Before each step, and after the last."""
    state: AcquisitionState
    """After the last."""
    picks: list[int]
    gains: list[float]
    columns: list[Tensor]
    scores: list[Scores]
    """Of the few, before each step, and after the last."""
    is_last: bool = False
    """Whether the last pick is not worthwhile."""


class Compared(NamedTuple):
    """What a comparison finds."""

    num_steps: int
    """How many steps stand: before the first at which another candidate may win."""
    scores: BoundedScores
    """Of all candidates, after these steps."""


class Comparison:
    """All candidates against one stretch: one product, and exact scores of those that it leaves in doubt."""

    def __init__(
        self,
        criteria: Criteria,
        candidates: CandidateSet,
        state: AcquisitionState,
        scores: BoundedScores,
        made: Stretch,
    ) -> None:
        """Look at candidates, given the rule's state and their scores before the stretch."""
        self._criteria = criteria
        self._held = candidates
        self._state = state
        self._scores = scores
        self._made = made
        self._columns = torch.stack(made.columns, dim=2)
        self._prices = criteria.rules.prices(candidates.costs)
        self._values = torch.tensor(made.gains, dtype=torch.float64) / self._prices[made.picks]
        self._count = len(made.picks)
        self._exact: list[tuple[Tensor, Scores]] = []

    @cached_property
    def _gate(self) -> Gate:
        """Which rows could be picked at each step."""
        return Gate.of([each.max_costs() for each in self._made.limit_states[:-1]])

    def run(self, available: Tensor) -> Compared:
        """Return what is found among the candidates that may be picked at all (k bool)."""
        held, made = self._held, self._made
        others = available.index_fill(0, made.few, False)
        if not bool(others.any()):
            return Compared(self._count, self._after_few())
        if not made.limit_states[0].admits_all:
            others &= self._gate.admits(held.costs, held.groups).any(dim=1)
        columns = held.prepared(self._columns)
        drops = list(held.drops(columns))
        if not held.is_screened:
            for rows, part in drops:
                some = torch.nonzero(others[rows]).flatten()
                decrements = self._criteria.total_order.acquisition.decrements(part)
                self._look_at(some + rows.start, tuple(drop[some] for drop in decrements))
        elif not self._screen(others, lambda values: held.doubts(self._scores, values, columns, drops)):
            self._sharpen()
            return self.run(available)
        after = held.after(self._scores, columns, drops, self._count)
        for places, decrements in self._exact:
            after = after.with_exact(places, self._left(places, decrements))
        return Compared(self._count, after.with_exact(made.few, made.scores[self._count]))

    def _screen(self, others: Tensor, doubts: Callable[[Tensor], Tensor]) -> bool:
        """Look at those of some candidates (k bool) that float32 does not exclude; False if that will not do.

        They may be too many, or not be where the proof says.

        Args:
            others: The candidates.
            doubts: Tells which candidates may beat or tie with picks of some values.
        """
        steps, others, at_once = torch.arange(self._count), others.clone(), self._held.focus
        while True:
            # Who beats late steps alone does not matter once an earlier one is beaten: some are looked at first.
            decided = (steps == 0) | (steps >= self._count)
            asked = torch.nonzero(doubts(self._values.masked_fill(decided, float("inf"))) & others).flatten()
            if not len(asked):
                return True
            if self._exact and len(asked) > _MANY_DOUBTS * len(others):
                return False
            asked, at_once = asked[:at_once], len(others)
            others[asked] = False
            for places, decrements in self._exactly(asked):
                self._look_at(places, decrements)
                self._exact.append((places, decrements))
            if not self._held.is_screened:
                return False

    def _sharpen(self) -> None:
        """Have fewer candidates in doubt: score all of them exactly anew, or else compute in float64."""
        if not any(self._scores.errors):
            self._held.distrust_float32()
        self._scores, self._exact = self._held.all_exactly(self._scores, self._state), []
        self._count = len(self._made.picks)

    def _after_few(self) -> BoundedScores:
        """Return all scores after the stretch: those of the few are known, and the others' are few products."""
        made, mask = self._made, torch.ones(len(self._held), dtype=torch.bool)
        rest = torch.nonzero(mask.index_fill_(0, made.few, False)).flatten()
        after = self._scores.with_exact(made.few, made.scores[-1])
        for places, decrements in self._exactly(rest):
            after = after.with_exact(places, self._left(places, decrements))
        return after

    def _exactly(self, places: Tensor) -> Iterator[tuple[Tensor, Scores]]:
        """Score some candidates exactly; yield their places, some at a time, and what the steps take: K times n x b."""
        self._scores = self._held.exactly(self._scores, places, self._state)
        for some in places.split(_ROWS_AT_ONCE):
            dots = (self._held.rows(some) @ self._columns.flatten(1)).view(-1, *self._columns.shape[1:])
            yield some, self._criteria.total_order.decrements(dots)

    def _left(self, places: Tensor, decrements: Scores) -> Scores:
        """Return the scores of some candidates after the steps that stand, given what all take from them."""
        before = self._scores.at(places)
        return tuple(score - drop[:, : self._count].sum(dim=1) for score, drop in zip(before, decrements, strict=True))

    def _look_at(self, places: Tensor, decrements: Scores) -> None:
        """Let only the steps stand before the first that one of some candidates beats and may be picked at.

        Args:
            places: Of the candidates, whose scores are exact.
            decrements: What the steps take from them, K times n x b.
        """
        held, made, criteria = self._held, self._made, self._criteria
        scores, norms, prices = self._scores.at(places), held.norms[places], self._prices[places]
        beats = criteria.total_order.may_beat(scores, decrements, norms, prices, self._values)
        beats[:, 0] = False  # the few are all that may win the first step
        some = torch.nonzero(beats.any(dim=1)).flatten()
        if not len(some):
            return
        beats, places = beats[some], places[some]
        may_win = self._gate.admits(held.costs[places], held.groups[places])
        may_win &= ~criteria.rules.excluded_after(held.features[places], held.features[made.picks])[:, :-1]
        beaten = (beats & may_win).any(dim=0)
        if bool(beaten.any()):
            self._count = min(self._count, int(beaten.to(torch.uint8).argmax()))
