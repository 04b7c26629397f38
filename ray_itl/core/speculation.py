"""Speculation: greedy steps over the rows the driver holds alone, and what a pass over the pool says of them.

`speculate` picks among the candidates; `count_true_picks` says how many of these picks are the pool's, given every row
that might beat one; `band_holds` whether what shards said of such rows can be believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState, Scores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.criteria import Criteria
from ray_itl.core.decision import Contenders
from ray_itl.core.limits import LimitState
from ray_itl.core.linalg import squared_norms
from ray_itl.core.lookahead import Lookahead, ScorePath
from ray_itl.core.messages import RowBatch, ScoreSpec
from ray_itl.core.rules import Gate


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
    path: ScorePath
    """The candidates' scores at each step."""
    gate: Gate
    """Which rows may be picked at each step, and after the last: of B + 1 moments."""
    features: Tensor
    """Of the picks, B x D float64."""
    state: AcquisitionState
    """After the last."""


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


_STRETCH = 32


def speculate(
    criteria: Criteria,
    state: AcquisitionState,
    limit_state: LimitState,
    candidates: CandidateSet,
    size: int,
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
        The picks. One product of all candidates with B columns, and O(B (F D + D r)) for steps among F foremost ones.
    """
    ahead, length = Lookahead(criteria, state, limit_state, candidates), min(size, _STRETCH)
    while (left := size - len(ahead.picks)) > 0 and not ahead.is_over:
        asked = min(length, left)
        made = ahead.go_on(asked)
        # Longer stretches share a product; what comes after a step at which another row wins is made in vain.
        length = min(_STRETCH, 2 * length) if made == asked else max(8, 2 * made)
    picks, gains, costs = ahead.picks, torch.tensor(ahead.gains, dtype=torch.float64), candidates.costs
    values = gains / criteria.rules.prices(costs)[picks]
    path = ahead.path()
    gate, features = Gate.of(ahead.max_costs), candidates.rows(picks)
    return SpeculatedPicks(picks, ahead.gains, values, path.columns, path, gate, features, ahead.state)


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
        The first step at which one of these rows wins, or B. O(q B), and O(k B) for each step too close to call.
    """
    if not len(returned.batch):
        return len(plan.picks)
    total_order, prices = criteria.total_order, criteria.rules.prices(returned.batch.costs)
    scores = tuple(
        b[:, None] - (d.cumsum(dim=1) - d) for b, d in zip(returned.before, returned.decrements, strict=True)
    )
    reach = torch.add(*total_order.bounded_gains(scores, returned.norms[:, None]))
    before, conditioned = state, 0
    for step, value in enumerate(plan.values.tolist()):
        rivals = returned.may_win[:, step]
        if not bool((rivals & (reach[:, step] >= total_order.floor(value, prices))).any()):
            continue
        for row in plan.features[conditioned:step]:
            before = before.condition(row)
        conditioned, (near, own) = step, _foremost_at(criteria, before, candidates, plan, step)
        contenders = Contenders(
            torch.cat([own.features, returned.features]),
            np.concatenate([own.ids, returned.batch.ids]),
            tuple(torch.cat([mine, theirs[:, step]]) for mine, theirs in zip(own.scores, scores, strict=True)),
            torch.cat([own.norms, returned.norms]),
            torch.cat([own.prices, prices]),
            torch.cat([own.may_win, rivals]),
        )
        place = total_order.best(before, contenders).place
        if place >= len(near) or int(near[place]) != plan.picks[step]:
            return step
    return len(plan.picks)


def band_holds(spec: ScoreSpec, returned: Returned, proposals: RowBatch, plan: SpeculatedPicks) -> bool:
    """Whether screened scores are within half the band of the exact ones, on all rows that came back.

    Asked of rules without forms alone; challengers report their scores as before the block, proposals as after it.
    """
    if spec.acquisition.is_certified:
        return True
    features = proposals.features.to(torch.float64)
    norms = torch.cat([returned.norms, squared_norms(features)])
    for first, then, *seen, magnitude in zip(
        returned.before,
        plan.state.scores(features),
        returned.batch.scores,
        proposals.scores,
        spec.magnitudes,
        strict=True,
    ):
        exact = torch.cat([first, then])
        allowed = 0.5 * spec.band * norms * magnitude + 2.0**-48 * exact.abs()
        if bool(((torch.cat(seen) - exact).abs() > allowed).any()):
            return False
    return True


def _foremost_at(
    criteria: Criteria, state: AcquisitionState, candidates: CandidateSet, plan: SpeculatedPicks, step: int
) -> tuple[Tensor, Contenders]:
    """Return those of the candidates that may be first, or tie with the first, at a step of the plan; their places.

    The state is that at the step.
    """
    may_win = plan.gate.admits(candidates.costs, candidates.groups)[:, step]
    may_win &= ~criteria.rules.excluded_after(candidates.features, plan.features[:step])[:, step]
    if not criteria.replacement:
        may_win[plan.picks[:step]] = False
    prices, scores = criteria.rules.prices(candidates.costs), plan.path.at(step)
    near = torch.empty(0, dtype=torch.int64)
    if candidates.is_screened:
        near = torch.nonzero(candidates.near(scores, float(plan.values[step])) & may_win).flatten()
        scores = candidates.exactly(scores, near, state)
    if not candidates.is_screened:
        scores = candidates.all_exactly(scores, state)
        near = criteria.total_order.near(scores.values, candidates.norms, prices, may_win)
    return near, Contenders(
        candidates.rows(near),
        candidates.ids[near.numpy()],
        scores.at(near),
        candidates.norms[near],
        prices[near],
        may_win[near],
    )
