"""Greedy steps over many candidates at the price of few.

A step over all candidates reads all of their features for a product with one pick's columns. So steps are made among
the foremost alone, some dozens at a time (a stretch), and all others are compared with these picks afterwards, in one
product: as the pool is with a block. Where another row may win at some step, the picks before it stand, and the next
stretch begins there, with that row among the foremost. All comparisons are those of `decision`: what is picked does not
depend on who is among the foremost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState, Scores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.criteria import Criteria
from ray_itl.core.decision import Contenders
from ray_itl.core.limits import LimitState
from ray_itl.core.rules import Gate, unit_rows

_ROWS_AT_ONCE = 2048
_STEPS_BETWEEN_MARKS = 32


def _decrements(criteria: Criteria, features: Tensor, columns: Tensor) -> Iterator[tuple[slice, Scores]]:
    """Yield what picks subtract from the scores of k rows, some rows at a time: a slice of them, and K times n x b."""
    flat = columns.flatten(1)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(features)))
        yield rows, criteria.total_order.decrements((features[rows] @ flat).view(-1, *columns.shape[1:]))


@dataclass(frozen=True)
class ScorePath:
    """How the scores of candidates fall along B picks; for as long as the set is what it was."""

    criteria: Criteria
    candidates: CandidateSet
    columns: Tensor
    """Of the picks, D x num_tracks x B float64."""
    marks: tuple[tuple[int, Scores], ...]
    """The scores before some steps, the first among them; by step."""

    def at(self, step: int) -> Scores:
        """Return the scores (k each) before a step, or after the last. At most a product with a few dozen columns."""
        first, scores = next(mark for mark in reversed(self.marks) if mark[0] <= step)
        if first == step:
            return scores
        fallen = tuple(score.clone() for score in scores)
        for rows, decrements in _decrements(self.criteria, self.candidates.features, self.columns[:, :, first:step]):
            _subtract(fallen, rows, decrements)
        return fallen


def _subtract(scores: Scores, rows: slice, decrements: Scores) -> None:
    for score, drop in zip(scores, decrements, strict=True):
        score[rows] -= drop.sum(dim=1)


@dataclass
class _Stretch:
    """Steps that were made among some of the candidates."""

    limit_states: list[LimitState]
    """Before each step, and after the last."""
    state: AcquisitionState
    """After the last."""
    picks: list[int]
    gains: list[float]
    columns: list[Tensor]
    scores: Scores
    """Of those candidates, after the last."""
    is_last: bool = False
    """Whether the last pick is not worthwhile."""


class Lookahead:
    """A speculation under way."""

    def __init__(
        self,
        criteria: Criteria,
        state: AcquisitionState,
        limit_state: LimitState,
        candidates: CandidateSet,
        focus: int,
    ) -> None:
        """Begin before the first step; `focus` is how many rows are the foremost."""
        self.state = state
        self.picks: list[int] = []
        self.gains: list[float] = []
        self.max_costs: list[np.ndarray] = [limit_state.max_costs()]
        self.is_over = False
        self._criteria = criteria
        self._limit_state = limit_state
        self._candidates = candidates
        self._focus = focus
        self._scores = candidates.scores
        self._prices = criteria.rules.prices(candidates.costs)
        self._available = torch.ones(len(candidates), dtype=torch.bool)
        self._units = unit_rows(candidates.features) if criteria.rules.excludes_similar_picks else None
        self._columns: list[Tensor] = []
        self._marks = [(0, candidates.scores)]

    def path(self) -> ScorePath:
        """Return the candidates' scores at every step made."""
        columns = torch.stack(self._columns, dim=2) if self._columns else torch.empty(0)
        return ScorePath(self._criteria, self._candidates, columns, (*self._marks, (len(self.picks), self._scores)))

    def go_on(self, size: int) -> int:
        """Make up to `size` further steps; returns how many stand, none only where no candidate may be picked."""
        foremost = self._foremost()
        if not len(foremost):
            self.is_over = True
            return 0
        made = self._among(foremost, size)
        count, scores = self._compare(foremost, made)
        self._take(made, count, scores)
        return count

    def _foremost(self) -> Tensor:
        """Return places of the best candidates that may be picked, all among them that may be the best of all."""
        held, total_order = self._candidates, self._criteria.total_order
        may_win = self._available & Gate.of(self.max_costs[-1:]).admits(held.costs, held.groups)[:, 0]
        if not bool(may_win.any()) or len(held) <= 2 * self._focus:
            return torch.nonzero(may_win).flatten()
        values = (total_order.gains(self._scores) / self._prices).masked_fill_(~may_win, float("-inf"))
        chosen = torch.zeros(len(held), dtype=torch.bool)
        chosen[torch.topk(values.nan_to_num_(float("inf")), self._focus).indices] = True
        chosen[total_order.near(self._scores, held.norms, self._prices, may_win)] = True
        return torch.nonzero(chosen & may_win).flatten()

    def _among(self, few: Tensor, size: int) -> _Stretch:
        """Make up to `size` steps among some candidates, of which at least one may be picked."""
        held, criteria, rules = self._candidates, self._criteria, self._criteria.rules
        features, ids, norms = held.features[few], held.ids[few.numpy()], held.norms[few]
        costs, groups, prices = held.costs[few], held.groups[few], self._prices[few]
        places, costs_each, groups_each = few.tolist(), costs.tolist(), groups.tolist()
        units = None if self._units is None else self._units[few]
        available, scores = torch.ones(len(few), dtype=torch.bool), tuple(score[few] for score in self._scores)
        made = _Stretch([self._limit_state], self.state, [], [], [], scores)
        while len(made.picks) < size and not made.is_last:
            limit_state = made.limit_states[-1]
            may_win = available
            if not limit_state.admits_all:
                may_win = available & Gate.of([limit_state.max_costs()]).admits(costs, groups)[:, 0]
            if not bool(may_win.any()):
                break
            index, gain = criteria.total_order.best(
                made.state, Contenders(features, ids, made.scores, norms, prices, may_win)
            )
            row, cost = features[index], costs_each[index]
            column, made.state = made.state.step(row)
            # So few columns go four times as fast from the left.
            dots = (column.mT.contiguous() @ features.mT).mT.contiguous()
            decrement = criteria.total_order.decrements(dots[:, :, None])
            made.scores = tuple(s - d[:, 0] for s, d in zip(made.scores, decrement, strict=True))
            available[index] = criteria.replacement
            if units is not None:
                available &= ~rules.like(units, units[index])
            made.limit_states.append(limit_state.take(cost, groups_each[index]))
            made.picks.append(places[index])
            made.gains.append(gain)
            made.columns.append(column)
            made.is_last = not criteria.is_worthwhile(gain, cost)
        return made

    def _compare(self, few: Tensor, made: _Stretch) -> tuple[int, Scores]:
        """Return the first step at which a candidate that is not among those few may win, and all scores by then."""
        held, criteria, count = self._candidates, self._criteria, len(made.picks)
        others = self._available.clone()
        others[few] = False
        if not bool(others.any()):
            return count, self._scores_after(few, made)
        values = torch.tensor(made.gains, dtype=torch.float64) / self._prices[made.picks]
        gate, columns = Gate.of([each.max_costs() for each in made.limit_states]), torch.stack(made.columns, dim=2)
        after, lost = (
            tuple(score.clone() for score in self._scores),
            list(_decrements(criteria, held.features, columns)),
        )
        for rows, decrements in lost:
            if bool(others[rows].any()):
                scores = tuple(score[rows] for score in self._scores)
                beats = criteria.total_order.may_beat(scores, decrements, held.norms[rows], self._prices[rows], values)
                beats[:, 0] = False  # the few are all that may win the first step
                some = torch.nonzero(beats.any(dim=1) & others[rows]).flatten()
                count = min(count, self._first_beaten(beats[some], some + rows.start, gate, made.picks))
        for rows, decrements in lost:
            _subtract(after, rows, tuple(drop[:, :count] for drop in decrements))
        return count, after

    def _scores_after(self, few: Tensor, made: _Stretch) -> Scores:
        """Return all scores after a stretch: those of its own rows are known, and the others' are few products."""
        after = tuple(old.index_copy(0, few, new) for old, new in zip(self._scores, made.scores, strict=True))
        rest = torch.ones(len(self._candidates), dtype=torch.bool).index_fill_(0, few, False)
        columns = torch.stack(made.columns, dim=2)
        for rows, decrements in _decrements(self._criteria, self._candidates.features[rest], columns):
            places = torch.nonzero(rest).flatten()[rows]
            for score, drop in zip(after, decrements, strict=True):
                score[places] -= drop.sum(dim=1)
        return after

    def _first_beaten(self, beats: Tensor, rows: Tensor, gate: Gate, picks: list[int]) -> int:
        """Return the first of b steps that one of n rows beats (n x b bool) and may be picked at, or b."""
        if not len(rows):
            return len(picks)
        held = self._candidates
        may_win = gate.admits(held.costs[rows], held.groups[rows])[:, :-1]
        may_win &= ~self._criteria.rules.excluded_after(held.features[rows], held.features[picks])[:, :-1]
        beaten = (beats & may_win).any(dim=0)
        return int(beaten.to(torch.uint8).argmax()) if bool(beaten.any()) else len(picks)

    def _take(self, made: _Stretch, count: int, scores: Scores) -> None:
        """Commit the first steps of a stretch, which lead to some scores."""
        rules, features, places = self._criteria.rules, self._candidates.features, made.picks[:count]
        self.picks += places
        self.gains += made.gains[:count]
        self._columns += made.columns[:count]
        self.max_costs += [each.max_costs() for each in made.limit_states[1 : count + 1]]
        self._limit_state = made.limit_states[count]
        if count == len(made.picks):
            self.state, self.is_over = made.state, made.is_last
        else:
            for place in places:
                self.state = self.state.condition(features[place])
        self._scores = scores
        if len(self.picks) - self._marks[-1][0] >= _STEPS_BETWEEN_MARKS:
            self._marks.append((len(self.picks), self._scores))
        if not self._criteria.replacement:
            self._available[places] = False
        if self._units is not None:
            self._available &= ~rules.like(self._units, self._units[places].mT).any(dim=1)
