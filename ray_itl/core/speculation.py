"""Speculation: greedy steps over the rows the driver holds alone, and what a pass over the pool says of them.

`CandidateSet` is what the driver holds, with exact float64 scores; `speculate` picks among it; `count_true_picks` says
how many of these picks are the pool's, given every row that might beat one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState, Scores
from ray_itl.core.decision import Contenders, TotalOrder
from ray_itl.core.limits import LimitState
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch
from ray_itl.core.rules import Gate, Rules, unit_rows


class CandidateSet:
    """Candidates, each with its features in float64 and its scores given the picks; their order means nothing.

    Features live in one buffer with rows to spare. A set comes and goes with every pass, and copying all of it each
    time would cost more than the speculation itself: rows are appended in place, and holes filled from the end.
    """

    def __init__(self, dim: int, num_scores: int) -> None:
        self._buffer = torch.empty(0, dim, dtype=torch.float64)
        self.positions = np.empty(0, dtype=np.int64)
        self.ids = np.empty(0, dtype=np.int64)
        self.norms = torch.empty(0, dtype=torch.float64)
        self.costs = torch.empty(0, dtype=torch.float64)
        self.groups = torch.empty(0, dtype=torch.int64)
        self.scores: Scores = (self.norms,) * num_scores

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def features(self) -> Tensor:
        """Features, k x D float64: a view that the next `add` or `keep` overwrites."""
        return self._buffer[: len(self)]

    def add(self, batch: RowBatch, features: Tensor, norms: Tensor, scores: Scores) -> None:
        """Append the k rows of a batch.

        Args:
            batch: The rows.
            features: k x D float64.
            norms: |x|^2, k float64.
            scores: Exact, K times k.
        """
        old = len(self)
        self._reserve(old + len(batch))
        self._buffer[old : old + len(batch)] = features
        self.positions = np.concatenate([self.positions, batch.positions])
        self.ids = np.concatenate([self.ids, batch.ids]) if len(self.ids) else batch.ids
        self.norms = torch.cat([self.norms, norms])
        self.costs = torch.cat([self.costs, batch.costs])
        self.groups = torch.cat([self.groups, batch.groups])
        self.scores = tuple(torch.cat(pair) for pair in zip(self.scores, scores, strict=True))

    def advance(self, decrements: Scores) -> None:
        """Subtract the decrements of accepted picks (k x m each) from the scores."""
        self.scores = tuple(s - d.sum(dim=1) for s, d in zip(self.scores, decrements, strict=True))

    def keep(self, mask: Tensor) -> np.ndarray:
        """Keep only the rows of a mask (k bool); returns the positions dropped."""
        chosen = mask.numpy()
        dropped = self.positions[~chosen]
        size = len(self) - len(dropped)
        holes, movers = np.flatnonzero(~chosen[:size]), size + np.flatnonzero(chosen[size:])
        order = np.arange(size)
        order[holes] = movers
        self._buffer[torch.from_numpy(holes)] = self._buffer[torch.from_numpy(movers)]
        self.positions, self.ids = self.positions[order], self.ids[order]
        index = torch.from_numpy(order)
        self.norms, self.costs, self.groups = self.norms[index], self.costs[index], self.groups[index]
        self.scores = tuple(score[index] for score in self.scores)
        return dropped

    def keep_best(self, limit: int, values: Tensor, always: int | None) -> np.ndarray:
        """Keep the rows of largest value.

        Args:
            limit: How many.
            values: k.
            always: A row to keep whatever its value, if any.

        Returns:
            The positions dropped.
        """
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.topk(values, min(limit, len(self))).indices] = True
        if always is not None:
            mask[always] = True
        return self.keep(mask)

    def _reserve(self, size: int) -> None:
        if size > len(self._buffer):
            grown = torch.empty(size + size // 2, self._buffer.shape[1], dtype=torch.float64)
            grown[: len(self)] = self.features
            self._buffer = grown


@dataclass(frozen=True)
class Criteria:
    """How rows compete, the same throughout a run."""

    total_order: TotalOrder
    rules: Rules
    replacement: bool
    """Whether a row may be picked again."""
    min_gain: float = 0.0
    """Picks that are worth less for each unit of their cost end the run; 0: none does."""

    def is_worthwhile(self, gain: float, cost: float) -> bool:
        """Whether a pick is worth its cost: gains `min_gain` for each unit of it, but for the tie width."""
        cost_ = torch.tensor(cost, dtype=torch.float64)
        return self.min_gain <= 0 or gain >= float(self.total_order.floor(self.min_gain, cost_))


@dataclass(frozen=True)
class SpeculatedPicks:
    """B speculated picks; none where no candidate may be picked."""

    picks: list[int]
    """Indices of candidates, in order."""
    gains: list[float]
    """Exact gain of each pick at its step, given that the picks before it are true."""
    values: Tensor
    """What the picks competed by: gains over prices, B float64."""
    columns: Tensor
    """D x num_tracks x B float64."""
    decrements: Scores
    """What each step subtracts from each candidate's scores, K times k x B."""
    gate: Gate
    """Which rows may be picked at each step, and after the last: of B + 1 moments."""
    features: Tensor
    """Of the picks, B x D float64."""


@dataclass(frozen=True)
class Returned:
    """Rows that a pass handed over, scored exactly along a plan (q rows)."""

    batch: RowBatch
    features: Tensor
    """q x D float64."""
    norms: Tensor
    """|x|^2, q float64."""
    before: Scores
    """Scores before the block, q each."""
    decrements: Scores
    """What each step of the plan subtracts, q x B each."""
    may_win: Tensor
    """Whether each may be picked at each step, and after the last: q x (B + 1) bool."""

    @classmethod
    def score(cls, criteria: Criteria, state: AcquisitionState, batch: RowBatch, plan: SpeculatedPicks) -> Returned:
        """Score rows under the state before the block and along the plan. O(q D (D + B)).

        Args:
            criteria: How rows compete.
            state: The rule's state before the block.
            batch: q rows.
            plan: B picks.
        """
        features = batch.features.to(torch.float64)
        dots = (features @ plan.columns.flatten(1)).view(len(features), *plan.columns.shape[1:])
        may_win = plan.gate.admits(batch.costs, batch.groups) & ~criteria.rules.excluded_after(features, plan.features)
        norms, decrements = squared_norms(features), criteria.total_order.decrements(dots)
        return cls(batch, features, norms, state.scores(features), decrements, may_win)


class _Step(NamedTuple):
    place: int
    gain: float
    columns: Tensor
    decrements: Scores


def speculate(
    criteria: Criteria, state: AcquisitionState, limit_state: LimitState, candidates: CandidateSet, size: int
) -> SpeculatedPicks:
    """Run `size` greedy steps over the candidates, fewer if none may be picked or one is not worthwhile.

    The pick that is not worthwhile is in the plan, as its last: some row that the driver does not hold may be.

    Args:
        criteria: How rows compete.
        state: The rule's state before the first step.
        limit_state: Where the selection stands with its limits by then.
        candidates: k rows, their scores under that state.
        size: B >= 1.

    Returns:
        The picks. O(B (k D + D r)).
    """
    rules, scores, prices = criteria.rules, candidates.scores, criteria.rules.prices(candidates.costs)
    units = unit_rows(candidates.features) if rules.excludes_similar_picks else None
    available = torch.ones(len(candidates), dtype=torch.bool)
    steps: list[_Step] = []
    max_costs = [limit_state.max_costs()]
    while len(steps) < size:
        may_win = available & Gate.of(max_costs[-1:]).admits(candidates.costs, candidates.groups)[:, 0]
        if not bool(may_win.any()):
            break
        contenders = Contenders(candidates.features, candidates.ids, scores, candidates.norms, prices, may_win)
        index, gain = criteria.total_order.best(state, contenders)
        row, cost = candidates.features[index], float(candidates.costs[index])
        column, state = state.step(row)
        decrement = criteria.total_order.decrements((candidates.features @ column)[:, :, None])
        scores = tuple(s - d[:, 0] for s, d in zip(scores, decrement, strict=True))
        available[index] = criteria.replacement
        if units is not None:
            available &= ~rules.like(units, units[index])
        limit_state = limit_state.take(cost, int(candidates.groups[index]))
        steps.append(_Step(index, gain, column, decrement))
        max_costs.append(limit_state.max_costs())
        if not criteria.is_worthwhile(gain, cost):
            break
    return _plan(candidates, prices, steps, Gate.of(max_costs))


def _plan(candidates: CandidateSet, prices: Tensor, steps: list[_Step], gate: Gate) -> SpeculatedPicks:
    picks, gains = [step.place for step in steps], [step.gain for step in steps]
    values, features = torch.tensor(gains, dtype=torch.float64) / prices[picks], candidates.features[picks]
    if not steps:
        return SpeculatedPicks([], [], values, torch.empty(0), (), gate, features)
    lost = tuple(torch.cat(score, dim=1) for score in zip(*(step.decrements for step in steps), strict=True))
    columns = torch.stack([step.columns for step in steps], dim=2)
    return SpeculatedPicks(picks, gains, values, columns, lost, gate, features)


def count_true_picks(
    criteria: Criteria, state: AcquisitionState, candidates: CandidateSet, plan: SpeculatedPicks, returned: Returned
) -> int:
    """Return how many of the plan's picks are true in view of the rows that came back, in exact float64 arithmetic.

    Args:
        criteria: How rows compete.
        state: The state before the block.
        candidates: The candidates the plan was made from, their scores as before the block.
        plan: The speculated picks.
        returned: Rows that might beat some pick.

    Returns:
        The first step at which one of these rows wins, or B. O(q B), and O(B D r) for each step too close to call.
    """
    if not len(returned.batch):
        return len(plan.picks)
    total_order, prices = criteria.total_order, criteria.rules.prices(returned.batch.costs)
    scores = tuple(
        b[:, None] - (d.cumsum(dim=1) - d) for b, d in zip(returned.before, returned.decrements, strict=True)
    )
    reach = torch.add(*total_order.bounded_gains(scores, returned.norms[:, None]))
    for step, value in enumerate(plan.values.tolist()):
        rivals = returned.may_win[:, step]
        if not bool((rivals & (reach[:, step] >= total_order.floor(value, prices))).any()):
            continue
        before = state
        for index in plan.picks[:step]:
            before = before.condition(candidates.features[index])
        own = _contenders_at(criteria, candidates, plan, step)
        contenders = Contenders(
            torch.cat([own.features, returned.features]),
            np.concatenate([own.ids, returned.batch.ids]),
            tuple(torch.cat([mine, theirs[:, step]]) for mine, theirs in zip(own.scores, scores, strict=True)),
            torch.cat([own.norms, returned.norms]),
            torch.cat([own.prices, prices]),
            torch.cat([own.may_win, rivals]),
        )
        if total_order.best(before, contenders).place != plan.picks[step]:
            return step
    return len(plan.picks)


def _contenders_at(criteria: Criteria, candidates: CandidateSet, plan: SpeculatedPicks, step: int) -> Contenders:
    """Return the candidates as they compete at a step of the plan."""
    scores = tuple(s - d[:, :step].sum(dim=1) for s, d in zip(candidates.scores, plan.decrements, strict=True))
    may_win = plan.gate.admits(candidates.costs, candidates.groups)[:, step]
    may_win &= ~criteria.rules.excluded_after(candidates.features, plan.features[:step])[:, step]
    if not criteria.replacement:
        may_win[plan.picks[:step]] = False
    prices = criteria.rules.prices(candidates.costs)
    return Contenders(candidates.features, candidates.ids, scores, candidates.norms, prices, may_win)
