"""Greedy steps over many candidates at the price of few.

A step over all candidates reads all of their features for a product with one pick's columns. So steps are made among
the foremost alone, some dozens at a time (a stretch), and all others are compared with these picks afterwards, in one
product: as the pool is with a block. Where another row may win at some step, the picks before it stand, and the next
stretch begins there, with that row among the foremost. All comparisons are those of `decision`: what is picked does not
depend on who is among the foremost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.comparison import Comparison, Stretch
from ray_itl.core.criteria import Criteria
from ray_itl.core.decision import Contenders
from ray_itl.core.foremost import foremost
from ray_itl.core.limits import LimitState
from ray_itl.core.rules import Gate, unit_rows

_STEPS_BETWEEN_MARKS = 32


@dataclass(frozen=True)
class ScorePath:
    """How the scores of candidates fall along B picks; for as long as the set is what it was."""

    candidates: CandidateSet
    columns: Tensor
    """Of the picks, D x num_tracks x B float64."""
    marks: tuple[tuple[int, BoundedScores], ...]
    """The scores before some steps, the first among them; by step."""

    def at(self, step: int) -> BoundedScores:
        """Return the scores before a step, or after the last. At most a product with a few dozen columns."""
        first, scores = next(mark for mark in reversed(self.marks) if mark[0] <= step)
        if first == step:
            return scores
        columns = self.candidates.prepared(self.columns[:, :, first:step])
        return self.candidates.after(scores, columns, self.candidates.drops(columns), step - first)


class Lookahead:
    """A speculation under way."""

    def __init__(
        self,
        criteria: Criteria,
        state: AcquisitionState,
        limit_state: LimitState,
        candidates: CandidateSet,
    ) -> None:
        """Begin before the first step."""
        self.state = state
        self.picks: list[int] = []
        self.gains: list[float] = []
        self.max_costs: list[np.ndarray] = [limit_state.max_costs()]
        self.is_over = False
        self._criteria = criteria
        self._limit_state = limit_state
        self._candidates = candidates
        self._scores = candidates.scores
        self._prices = criteria.rules.prices(candidates.costs)
        self._available = torch.ones(len(candidates), dtype=torch.bool)
        self._units = unit_rows(candidates.features) if criteria.rules.excludes_similar_picks else None
        self._columns: list[Tensor] = []
        self._marks = [(0, self._scores)]

    def path(self) -> ScorePath:
        """Return the candidates' scores at every step made."""
        columns = torch.stack(self._columns, dim=2) if self._columns else torch.empty(0)
        return ScorePath(self._candidates, columns, (*self._marks, (len(self.picks), self._scores)))

    def go_on(self, size: int) -> int:
        """Make up to `size` further steps; returns how many stand, none only where no candidate may be picked."""
        held = self._candidates
        may_win = self._available & Gate.of(self.max_costs[-1:]).admits(held.costs, held.groups)[:, 0]
        few, self._scores = foremost(self._criteria, held, self.state, self._scores, may_win)
        if not len(few):
            self.is_over = True
            return 0
        made = self._among(few, size)
        found = Comparison(self._criteria, self._candidates, self.state, self._scores, made).run(self._available)
        self._take(made, *found)
        return found.num_steps

    def _among(self, few: Tensor, size: int) -> Stretch:
        """Make up to `size` steps among some candidates, of which at least one may be picked."""
        held, criteria, rules = self._candidates, self._criteria, self._criteria.rules
        features, ids, norms = held.rows(few), held.ids[few.numpy()], held.norms[few]
        costs, groups, prices = held.costs[few], held.groups[few], self._prices[few]
        places, costs_each, groups_each = few.tolist(), costs.tolist(), groups.tolist()
        units = None if self._units is None else self._units[few]
        available = torch.ones(len(few), dtype=torch.bool)
        made = Stretch(few, [self._limit_state], self.state, [], [], [], [self._scores.at(few)])
        while len(made.picks) < size and not made.is_last:
            limit_state = made.limit_states[-1]
            may_win = available
            if not limit_state.admits_all:
                may_win = available & Gate.of([limit_state.max_costs()]).admits(costs, groups)[:, 0]
            if not bool(may_win.any()):
                break
            index, gain = criteria.total_order.best(
                made.state, Contenders(features, ids, made.scores[-1], norms, prices, may_win)
            )
            row, cost = features[index], costs_each[index]
            column, made.state = made.state.step(row)
            # So few columns go four times as fast from the left.
            dots = (column.mT.contiguous() @ features.mT).mT.contiguous()
            decrement = criteria.total_order.decrements(dots[:, :, None])
            made.scores.append(tuple(s - d[:, 0] for s, d in zip(made.scores[-1], decrement, strict=True)))
            available[index] = criteria.replacement
            if units is not None:
                available &= ~rules.like(units, units[index])
            made.limit_states.append(limit_state.take(cost, groups_each[index]))
            made.picks.append(places[index])
            made.gains.append(gain)
            made.columns.append(column)
            made.is_last = not criteria.is_worthwhile(gain, cost)
        return made

    def _take(self, made: Stretch, count: int, scores: BoundedScores) -> None:
        """Commit the first steps of a stretch, which lead to some scores."""
        rules, places = self._criteria.rules, made.picks[:count]
        self.picks += places
        self.gains += made.gains[:count]
        self._columns += made.columns[:count]
        self.max_costs += [each.max_costs() for each in made.limit_states[1 : count + 1]]
        self._limit_state = made.limit_states[count]
        if count == len(made.picks):
            self.state, self.is_over = made.state, made.is_last
        else:
            for row in self._candidates.rows(places):
                self.state = self.state.condition(row)
        self._scores = scores
        if len(self.picks) - self._marks[-1][0] >= _STEPS_BETWEEN_MARKS:
            self._marks.append((len(self.picks), self._scores))
        if not self._criteria.replacement:
            self._available[places] = False
        if self._units is not None:
            self._available &= ~rules.like(self._units, self._units[places].mT).any(dim=1)
