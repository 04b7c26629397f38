"""Speculation: greedy steps over the driver's candidates alone, to be verified by one pass over the pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import AcquisitionState, Scores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.decision import Judge
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch


@dataclass(frozen=True)
class Plan:
    """B speculated picks."""

    picks: list[int]
    """Indices of candidates, in order."""
    gains: list[float]
    """Exact gain of each pick at its step, given that the picks before it stand."""
    columns: Tensor
    """D x num_tracks x B float64."""
    decrements: Scores
    """What each step subtracts from each candidate's scores, k x B each."""
    thresholds: Tensor
    """Ratios tau_k that a row must reach to win or tie at step k, B float64."""


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

    @classmethod
    def score(cls, judge: Judge, state: AcquisitionState, batch: RowBatch, plan: Plan) -> Arrivals:
        """Score rows under the state before the block and along the plan. O(q D (D + B))."""
        features = batch.features.to(torch.float64)
        dots = (features @ plan.columns.flatten(1)).view(len(features), *plan.columns.shape[1:])
        return cls(batch, features, squared_norms(features), state.scores(features), judge.decrements(dots))


def speculate(
    judge: Judge,
    state: AcquisitionState,
    candidates: CandidateSet,
    size: int,
    replacement: bool,
    least: float = float("-inf"),
) -> Plan:
    """Run `size` greedy steps over the candidates, fewer if one gains less than `least`. O(size (k D + D^2)).

    Without replacement a picked candidate cannot be picked again; `size` is then at most the number of candidates.
    The pick that gains less than `least` is in the plan, as its last: some row outside it may gain more.
    """
    scores = Scores(candidates.scores.num.clone(), candidates.scores.den.clone())
    picks, gains, columns, decrements, thresholds = [], [], [], [], []
    for _ in range(size):
        index, gain = judge.best(state, candidates.features, candidates.ids, scores, candidates.norms)
        row = candidates.features[index]
        column = state.columns(row)
        decrement = judge.decrements((candidates.features @ column)[:, :, None])
        scores = Scores(scores.num - decrement.num[:, 0], scores.den - decrement.den[:, 0])
        if not replacement:
            scores.num[index] = float("-inf")
        state = state.condition(row)
        picks.append(index)
        gains.append(gain)
        columns.append(column)
        decrements.append(decrement)
        thresholds.append(judge.threshold(gain, state))
        if gain < least:
            break
    return Plan(
        picks,
        gains,
        torch.stack(columns, dim=2),
        Scores(*(torch.cat(track, dim=1) for track in zip(*decrements, strict=True))),
        torch.tensor(thresholds, dtype=torch.float64),
    )


def count_true_picks(
    judge: Judge,
    state: AcquisitionState,
    candidates: CandidateSet,
    plan: Plan,
    arrivals: Arrivals,
    replacement: bool,
) -> int:
    """Return how many of the plan's picks stand against the arrivals, in exact float64 arithmetic.

    Args:
        judge: The total order.
        state: The state before the block.
        candidates: The candidates the plan was made from, their scores as before the block.
        plan: The speculated picks.
        arrivals: Rows that might beat some pick.
        replacement: Whether a picked row may be picked again.

    Returns:
        The first step at which an arrival wins, or B. O(q B), and O(B D^2) for each step too close to call.
    """
    if not len(arrivals.batch):
        return len(plan.picks)
    scores = Scores(
        *(b[:, None] - (d.cumsum(dim=1) - d) for b, d in zip(arrivals.before, arrivals.decrements, strict=True))
    )
    reach = (judge.gains(scores) + judge.errors(scores, arrivals.norms[:, None])).amax(dim=0)
    for step, gain in enumerate(plan.gains):
        if float(reach[step]) < judge.floor(gain, state):
            continue
        rivals = Scores(scores.num[:, step], scores.den[:, step])
        before = state
        for index in plan.picks[:step]:
            before = before.condition(candidates.features[index])
        own = _candidate_scores(candidates, plan, step, replacement)
        best = judge.best(
            before,
            torch.cat([candidates.features, arrivals.features]),
            np.concatenate([candidates.ids, arrivals.batch.ids]),
            Scores(torch.cat([own.num, rivals.num]), torch.cat([own.den, rivals.den])),
            torch.cat([candidates.norms, arrivals.norms]),
        )
        if best.place != plan.picks[step]:
            return step
    return len(plan.picks)


def _candidate_scores(candidates: CandidateSet, plan: Plan, step: int, replacement: bool) -> Scores:
    """Return the candidates' scores before a step of the plan: k each."""
    num = candidates.scores.num - plan.decrements.num[:, :step].sum(dim=1)
    if not replacement:
        num[plan.picks[:step]] = float("-inf")
    return Scores(num, candidates.scores.den - plan.decrements.den[:, :step].sum(dim=1))
