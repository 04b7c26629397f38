"""Speculation: greedy steps over the driver's candidates alone, to be verified by one pass over the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import AcquisitionState, Scores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.decision import Field, Judge
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch
from ray_itl.core.rules import Gate, Rules, unit_rows
from ray_itl.core.standing import Standing, gate_of


@dataclass(frozen=True)
class Terms:
    """How rows compete, the same throughout a run."""

    judge: Judge
    rules: Rules
    replacement: bool
    """Whether a row may be picked again."""
    min_gain: float = 0.0
    """Picks that are worth less for each unit of their cost end the run; 0: none does."""

    def is_worthwhile(self, gain: float, cost: float, state: AcquisitionState) -> bool:
        """Whether a pick is worth its cost; a gain within the tie width of what is asked for is."""
        cost_ = torch.tensor(cost, dtype=torch.float64)
        return self.min_gain <= 0 or gain >= float(self.judge.floor(self.min_gain, cost_, state))


@dataclass(frozen=True)
class Plan:
    """B speculated picks; none where no candidate may be picked."""

    picks: list[int]
    """Indices of candidates, in order."""
    gains: list[float]
    """Exact gain of each pick at its step, given that the picks before it stand."""
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
class Arrivals:
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
    def score(cls, terms: Terms, state: AcquisitionState, batch: RowBatch, plan: Plan) -> Arrivals:
        """Score rows under the state before the block and along the plan. O(q D (D + B))."""
        features = batch.features.to(torch.float64)
        dots = (features @ plan.columns.flatten(1)).view(len(features), *plan.columns.shape[1:])
        may_win = plan.gate.admits(batch.costs, batch.groups) & ~terms.rules.barred_after(features, plan.features)
        norms, decrements = squared_norms(features), terms.judge.decrements(dots)
        return cls(batch, features, norms, state.scores(features), decrements, may_win)


class _Step(NamedTuple):
    place: int
    gain: float
    columns: Tensor
    decrements: Scores


def speculate(terms: Terms, state: AcquisitionState, standing: Standing, candidates: CandidateSet, size: int) -> Plan:
    """Run `size` greedy steps over the candidates, fewer if none may be picked or one is not worthwhile.

    The pick that is not worthwhile is in the plan, as its last: some row outside it may be. O(size (k D + D^2)).
    """
    rules, scores, prices = terms.rules, candidates.scores, terms.rules.prices(candidates.costs)
    units = unit_rows(candidates.features) if rules.minds_picks else None
    free = torch.ones(len(candidates), dtype=torch.bool)
    steps: list[_Step] = []
    rooms = [standing.room()]
    while len(steps) < size:
        may_win = free & Gate(torch.from_numpy(rooms[-1])[None]).admits(candidates.costs, candidates.groups)[:, 0]
        if not bool(may_win.any()):
            break
        field = Field(candidates.features, candidates.ids, scores, candidates.norms, prices, may_win)
        index, gain = terms.judge.best(state, field)
        row, cost = candidates.features[index], float(candidates.costs[index])
        column = state.columns(row)
        decrement = terms.judge.decrements((candidates.features @ column)[:, :, None])
        scores = tuple(s - d[:, 0] for s, d in zip(scores, decrement, strict=True))
        free[index] = terms.replacement
        if units is not None:
            free &= ~rules.like(units, units[index])
        state, standing = state.condition(row), standing.take(cost, int(candidates.groups[index]))
        steps.append(_Step(index, gain, column, decrement))
        rooms.append(standing.room())
        if not terms.is_worthwhile(gain, cost, state):
            break
    return _plan(candidates, prices, steps, gate_of(rooms))


def _plan(candidates: CandidateSet, prices: Tensor, steps: list[_Step], gate: Gate) -> Plan:
    picks, gains = [step.place for step in steps], [step.gain for step in steps]
    values, features = torch.tensor(gains, dtype=torch.float64) / prices[picks], candidates.features[picks]
    if not steps:
        return Plan([], [], values, torch.empty(0), (), gate, features)
    lost = tuple(torch.cat(score, dim=1) for score in zip(*(step.decrements for step in steps), strict=True))
    columns = torch.stack([step.columns for step in steps], dim=2)
    return Plan(picks, gains, values, columns, lost, gate, features)


def count_true_picks(
    terms: Terms, state: AcquisitionState, candidates: CandidateSet, plan: Plan, arrivals: Arrivals
) -> int:
    """Return how many of the plan's picks stand against the arrivals, in exact float64 arithmetic.

    Args:
        terms: How rows compete.
        state: The state before the block.
        candidates: The candidates the plan was made from, their scores as before the block.
        plan: The speculated picks.
        arrivals: Rows that might beat some pick.

    Returns:
        The first step at which an arrival wins, or B. O(q B), and O(B D^2) for each step too close to call.
    """
    if not len(arrivals.batch):
        return len(plan.picks)
    judge, prices = terms.judge, terms.rules.prices(arrivals.batch.costs)
    scores = tuple(
        b[:, None] - (d.cumsum(dim=1) - d) for b, d in zip(arrivals.before, arrivals.decrements, strict=True)
    )
    reach = judge.gains(scores) + judge.errors(scores, arrivals.norms[:, None])
    for step, value in enumerate(plan.values.tolist()):
        rivals = arrivals.may_win[:, step]
        if not bool((rivals & (reach[:, step] >= judge.floor(value, prices, state))).any()):
            continue
        before = state
        for index in plan.picks[:step]:
            before = before.condition(candidates.features[index])
        own = _field(terms, candidates, plan, step)
        field = Field(
            torch.cat([own.features, arrivals.features]),
            np.concatenate([own.ids, arrivals.batch.ids]),
            tuple(torch.cat([mine, theirs[:, step]]) for mine, theirs in zip(own.scores, scores, strict=True)),
            torch.cat([own.norms, arrivals.norms]),
            torch.cat([own.prices, prices]),
            torch.cat([own.may_win, rivals]),
        )
        if judge.best(before, field).place != plan.picks[step]:
            return step
    return len(plan.picks)


def _field(terms: Terms, candidates: CandidateSet, plan: Plan, step: int) -> Field:
    """Return the candidates as they compete at a step of the plan."""
    scores = tuple(s - d[:, :step].sum(dim=1) for s, d in zip(candidates.scores, plan.decrements, strict=True))
    may_win = plan.gate.admits(candidates.costs, candidates.groups)[:, step]
    may_win &= ~terms.rules.barred_after(candidates.features, plan.features[:step])[:, step]
    if not terms.replacement:
        may_win[plan.picks[:step]] = False
    prices = terms.rules.prices(candidates.costs)
    return Field(candidates.features, candidates.ids, scores, candidates.norms, prices, may_win)
