"""The runner-up of every pick: the row that would have been picked at its step, had the pick not been there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition, AcquisitionState
from ray_itl.core.decision import Field, Judge
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import Precision, RowBatch, Start
from ray_itl.core.pool import Pool
from ray_itl.core.rival_query import RivalQuery
from ray_itl.core.rules import Rules
from ray_itl.core.standing import Standing, gate_along
from ray_itl.core.trajectory import Pick


@dataclass(frozen=True)
class RunnerUp:
    """The second best row of a step, and by how much the pick's gain exceeds its own; at least 0 but for the tie width.

    Where rows compete by gain per cost, the margin is one of gain per cost.
    """

    position: int
    row_id: int | str
    margin: float


def runners_up(
    pool: Pool,
    acquisition: Acquisition,
    state: AcquisitionState,
    picks: Sequence[Pick],
    features: Tensor,
    precision: Precision = "float64",
    replacement: bool = False,
    excluded: np.ndarray | None = None,
    rules: Rules | None = None,
    standing: Standing | None = None,
) -> list[RunnerUp | None]:
    """Return the runner-up of every pick; None where no other row could be picked.

    It is the first in the total order of `decision` among all rows of the pool that could have been picked at that
    step: not the pick, nor (without replacement) one before it, nor excluded, nor barred for its likeness to others,
    and within budget and quotas as they stood; minimums that had been given up by then are given up here too. So it is
    the row of the largest gain (or gain per cost), the smallest id among those that tie. Exact as picks are, but where
    more than 64 rows of a shard are closer to the best than float64 rounding can tell and do not tie: then the row
    named is one of them. When a selection ends (least gain, share) plays no part.

    Args:
        pool: All rows. One pass, O(N D n); what the pool is at otherwise is not touched.
        acquisition: The rule.
        state: Its state before the first pick.
        picks: The picks in order, with their gains.
        features: Of the picks, n x D float64.
        precision: Of the screen: that in which the selection ended (see `GreedyStats`).
        replacement: Whether a row could be picked more than once.
        excluded: Positions of rows that could not be picked.
        rules: Of the selection; None where every row costs 1 and could be picked.
        standing: Before the first pick; None where neither costs nor quotas limit anything.
    """
    if not picks:
        return []
    start = Start(acquisition, state.quadratics(), precision, state.gain_scale, rules)
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    excluded = np.empty(0, dtype=np.int64) if excluded is None else excluded
    gate = gate_along(standing or Standing(len(picks)), ((pick.cost, pick.group) for pick in picks))
    columns = _columns(state, features)
    found = pool.rivals(RivalQuery(start, columns, positions, features, gate, excluded, replacement))
    judge = Judge(acquisition, start.magnitudes)
    by_step = np.argsort(found.steps, kind="stable")
    ends = np.searchsorted(found.steps[by_step], np.arange(len(picks) + 1))
    runners: list[RunnerUp | None] = []
    for step, (pick, row) in enumerate(zip(picks, features, strict=True)):
        places = found.places[by_step[ends[step] : ends[step + 1]]]
        runners.append(_first(judge, rules or Rules(), state, found.rows, places, pick) if len(places) else None)
        state = state.condition(row)
    return runners


def _first(
    judge: Judge, rules: Rules, state: AcquisitionState, rows: RowBatch, places: np.ndarray, pick: Pick
) -> RunnerUp:
    """Return the first of some rows in the total order, by their exact gains at a step."""
    chosen = torch.from_numpy(places)
    features, ids, prices = rows.features[chosen].to(torch.float64), rows.ids[places], rules.prices(rows.costs[chosen])
    field = Field(features, ids, state.scores(features), squared_norms(features), prices, prices > 0)
    best = judge.best(state, field)
    value = best.gain / float(prices[best.place])
    own = pick.gain / float(rules.prices(torch.tensor([pick.cost], dtype=torch.float64)))
    row_id = ids[best.place : best.place + 1].tolist()[0]
    return RunnerUp(int(rows.positions[places[best.place]]), row_id, own - value)


def _columns(state: AcquisitionState, features: Tensor) -> Tensor:
    """Return what each pick subtracts, D x num_tracks x n. O(n D^2)."""
    columns = []
    for row in features:
        columns.append(state.columns(row))
        state = state.condition(row)
    return torch.stack(columns, dim=2)
