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
from ray_itl.core.rivals import RivalQuery
from ray_itl.core.trajectory import Pick


@dataclass(frozen=True)
class RunnerUp:
    """The second best row of a step, and by how much the pick's gain exceeds its own.

    The margin is at least 0 but for the tie width, where the pick is the best row by gain alone; a pick that a further
    condition chose (a quota, a cost) may have a negative one.
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
) -> list[RunnerUp | None]:
    """Return the runner-up of every pick; None where no other row could be picked.

    It is the first in the total order of `decision` among all rows of the pool but the pick, those picked before it
    (without replacement) and those excluded: the row of the largest gain, the smallest id among those that tie.
    Exact as picks are, but where more than 64 rows of a shard are closer to the best than float64 rounding can tell and
    do not tie: then the row named is one of them. Costs, quotas and other conditions on picks play no part.

    Args:
        pool: All rows. One pass, O(N D n); what the pool is at otherwise is not touched.
        acquisition: The rule.
        state: Its state before the first pick.
        picks: The picks in order, with their gains.
        features: Of the picks, n x D float64.
        precision: Of the screen: that in which the selection ended (see `GreedyStats`).
        replacement: Whether a row could be picked more than once.
        excluded: Positions of rows that could not be picked.
    """
    if not picks:
        return []
    start = Start(acquisition, state.quadratics(), precision, state.gain_scale)
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    excluded = np.empty(0, dtype=np.int64) if excluded is None else excluded
    columns = _columns(state, features)
    found = pool.rivals(RivalQuery(start, columns, positions, excluded, replacement))
    judge = Judge(acquisition, start.magnitudes)
    by_step = np.argsort(found.steps, kind="stable")
    ends = np.searchsorted(found.steps[by_step], np.arange(len(picks) + 1))
    runners: list[RunnerUp | None] = []
    for step, (pick, row) in enumerate(zip(picks, features, strict=True)):
        places = found.places[by_step[ends[step] : ends[step + 1]]]
        runners.append(_first(judge, state, found.rows, places, pick) if len(places) else None)
        state = state.condition(row)
    return runners


def _first(judge: Judge, state: AcquisitionState, rows: RowBatch, places: np.ndarray, pick: Pick) -> RunnerUp:
    """Return the first of some rows in the total order, by their exact gains at a step."""
    features = rows.features[torch.from_numpy(places)].to(torch.float64)
    ids = rows.ids[places]
    everywhere = torch.ones(len(places), dtype=torch.float64)
    field = Field(features, ids, state.scores(features), squared_norms(features), everywhere, everywhere > 0)
    best = judge.best(state, field)
    row_id = ids[best.place : best.place + 1].tolist()[0]
    return RunnerUp(int(rows.positions[places[best.place]]), row_id, pick.gain - best.gain)


def _columns(state: AcquisitionState, features: Tensor) -> Tensor:
    """Return what each pick subtracts, D x num_tracks x n. O(n D^2)."""
    columns = []
    for row in features:
        columns.append(state.columns(row))
        state = state.condition(row)
    return torch.stack(columns, dim=2)
