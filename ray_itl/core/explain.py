"""Why a pick: the row that came second, the targets it says most about, the rows it is most like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.decision import Contenders, TotalOrder, gain_scale
from ray_itl.core.features import UnitNorm
from ray_itl.core.limits import LimitState, gate_along
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import Precision, RivalQuery, RowBatch, ScoreSpec
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.rules import Rules
from ray_itl.core.similarity_floor import SimilarityFloor
from ray_itl.core.trajectory import Pick
from ray_itl.errors import InputError


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
    limit_state: LimitState | None = None,
    floor: SimilarityFloor | None = None,
) -> list[RunnerUp | None]:
    """Return the runner-up of every pick; None where no other row could be picked.

    It is the first in the total order of `decision` among all rows of the pool that could have been picked at that
    step: not the pick, nor (without replacement) one before it, nor excluded, nor too similar to others, and within
    budget and quotas as they were; minimums that had been given up by then are given up here too. So it is
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
        limit_state: Before the first pick; None where neither costs nor quotas limit anything.
        floor: Rows below it could not be picked; None: all could.
    """
    if not picks:
        return []
    scale = gain_scale(acquisition, state, pool.mean_squared_norm())
    start = ScoreSpec.of(acquisition, state, precision, scale, rules, floor)
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    excluded = np.empty(0, dtype=np.int64) if excluded is None else excluded
    gate = gate_along(limit_state or LimitState(len(picks)), ((pick.cost, pick.group) for pick in picks))
    columns = _columns(state, features)
    found = pool.rivals(RivalQuery(start, columns, positions, features, gate, excluded, replacement))
    total_order = TotalOrder(acquisition, start.magnitudes, scale)
    by_step = np.argsort(found.steps, kind="stable")
    ends = np.searchsorted(found.steps[by_step], np.arange(len(picks) + 1))
    runners: list[RunnerUp | None] = []
    for step, (pick, row) in enumerate(zip(picks, features, strict=True)):
        places = found.places[by_step[ends[step] : ends[step + 1]]]
        runners.append(_first(total_order, rules or Rules(), state, found.rows, places, pick) if len(places) else None)
        state = state.condition(row)
    return runners


def _first(
    total_order: TotalOrder, rules: Rules, state: AcquisitionState, rows: RowBatch, places: np.ndarray, pick: Pick
) -> RunnerUp:
    """Return the first of some rows in the total order, by their exact gains at a step."""
    chosen = torch.from_numpy(places)
    features, ids, prices = rows.features[chosen].to(torch.float64), rows.ids[places], rules.prices(rows.costs[chosen])
    contenders = Contenders(features, ids, state.scores(features), squared_norms(features), prices, prices > 0)
    best = total_order.best(state, contenders)
    value = best.gain / float(prices[best.place])
    own = pick.gain / float(rules.prices(torch.tensor([pick.cost], dtype=torch.float64)))
    row_id = ids[best.place : best.place + 1].tolist()[0]
    return RunnerUp(int(rows.positions[places[best.place]]), row_id, own - value)


def _columns(state: AcquisitionState, features: Tensor) -> Tensor:
    """Return what each pick subtracts, D x num_tracks x n. O(n D r)."""
    columns = []
    for row in features:
        column, state = state.step(row)
        columns.append(column)
    return torch.stack(columns, dim=2)


_CHUNK_ENTRIES = 1 << 23
_KNOWN = 1e-12


class TargetShares(NamedTuple):
    """For each of n picks the k targets of the largest share of its gain, largest first (lowest index among equals)."""

    indices: Tensor
    """n x k int64."""
    shares: Tensor
    """n x k float64 in [0, 1]; 0 throughout for a pick that says nothing about any target alone."""


def target_shares(
    acquisition: Acquisition,
    posterior: Posterior,
    targets: Targets,
    directions: Tensor,
    count: int,
    importance: Tensor | None = None,
) -> TargetShares:
    """Return the shares of every pick's gain that go to its `count` (at most M) foremost targets.

    The share of target a in a pick y is c_a g_a / sum_b c_b g_b, with the weight c_a of its task, where g_a is the gain
    that y would have, given the picks before it, if a were the only target. With c(a, y) = k(a, y | picks before),
    v = k(y, y | picks before) and z_a = c(a, y)^2 / (v + s2), by which the variance of f_a falls:

        VTL   g_a = w_a z_a
        else  g_a = -1/2 log(1 - z_a / (k(a, a | picks before) + s2A / w_a))    (I(f_a; y), with noise I(y_a; y))

    For VTL the shares are exact: the gain is the sum of its c_a g_a. For ITL they are a convention: the joint gain
    I(f_A; y) is not a sum over targets. Targets that repeat each other are each counted in full, so that the sum of the
    g_a may exceed the gain, and targets that tell something only together count for nothing. Uncertainty looks at no
    target; its picks are divided as ITL's with s2A = s2, as are those of the baselines.

    Variances fall by subtraction: a target with less than 1e-12 of its squared norm left counts as known (share 0).

    Args:
        acquisition: The rule, for s2 and s2A.
        posterior: What is known before the first pick.
        targets: M targets with their weights.
        directions: S y / sqrt(v + s2) of every pick y at its step, D x n float64: S falls by their outer products.
        count: How many targets to name, >= 1.
        importance: c, M float64 >= 0; None: all 1.

    O(M n D), in bounded memory beside n x count.
    """
    num_picks = directions.shape[1]
    total = torch.zeros(num_picks, dtype=torch.float64)
    best = TargetShares(torch.empty(num_picks, 0, dtype=torch.int64), torch.empty(num_picks, 0, dtype=torch.float64))
    for start in range(0, len(targets.rows), step := max(1, _CHUNK_ENTRIES // max(1, num_picks))):
        part = slice(start, start + step)
        gains = _single_gains(acquisition, posterior, targets.rows[part], targets.weights[part], directions).mT
        gains = gains if importance is None else gains * importance[part]
        total += gains.sum(dim=1)
        best = _foremost(best, torch.arange(start, start + gains.shape[1]).expand_as(gains), gains, count)
    return TargetShares(best.indices, best.shares / total.where(total > 0, 1.0)[:, None])


def _single_gains(
    acquisition: Acquisition, posterior: Posterior, rows: Tensor, weights: Tensor, directions: Tensor
) -> Tensor:
    """Return g_a of some targets for every pick, m x n."""
    falls = (rows @ directions).square_()
    if isinstance(acquisition, VarianceReduction):
        return falls.mul_(weights[:, None])
    noise = acquisition.noise_variance
    if isinstance(acquisition, InformationGain) and acquisition.target_noise_variance is not None:
        noise = acquisition.target_noise_variance
    before = posterior.variance(rows)[:, None] - (falls.cumsum(dim=1) - falls)
    known = before <= _KNOWN * rows.square().sum(dim=1, keepdim=True)
    # A target of weight 0 is observed with infinite noise: it takes no part.
    observed = before.where(~known, 1.0) + noise / weights[:, None]
    share = (falls / observed).clamp_(0.0, 1.0 - 2.0**-52).masked_fill_(known | (weights == 0)[:, None], 0.0)
    return share.neg_().log1p_().mul_(-0.5)


def _foremost(best: TargetShares, indices: Tensor, gains: Tensor, count: int) -> TargetShares:
    """Return the largest of what was found so far and of further targets (n x m)."""
    if gains.shape[1] > count:
        top = gains.sort(dim=1, descending=True, stable=True)
        gains, indices = top.values[:, :count], indices.gather(1, top.indices[:, :count])
    values, names = torch.cat([best.shares, gains], dim=1), torch.cat([best.indices, indices], dim=1)
    order = values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return TargetShares(names.gather(1, order), values.gather(1, order))


_CHUNK_COSINES = 1 << 24


class Neighbours(NamedTuple):
    """For each of n rows the k others most like it, the most like first; the lowest index among equals."""

    indices: Tensor
    """n x k int64; -1 where there are fewer than k."""
    cosines: Tensor
    """n x k float64 in [-1, 1]; nan where there are fewer than k."""


def nearest_of(rows: Tensor, others: Tensor, count: int, chunk_rows: int | None = None) -> Neighbours:
    """Return the `count` (at most m) others of the largest cosine to each row. A row of zeros has cosine 0 with all.

    Args:
        rows: n x D.
        others: m x D, m >= 1.
        count: How many, >= 1.
        chunk_rows: Rows compared at a time; None: as many as keep to 2^24 cosines.

    Raises:
        InputError: there are no others, or the widths differ.

    O(n m D).
    """
    if len(others) == 0 or rows.shape[1] != others.shape[1]:
        raise InputError(
            f"the nearest of {tuple(others.shape)} rows to {tuple(rows.shape)} rows is not defined: hand over at least "
            "one, of the same width"
        )
    units = UnitNorm()(others.to(torch.float64)).mT
    step = chunk_rows or max(1, _CHUNK_COSINES // len(others))
    parts = [
        _largest(UnitNorm()(part.to(torch.float64)) @ units, min(count, len(others)))
        for part in (rows.split(step) if len(rows) else [rows])
    ]
    return Neighbours(*(torch.cat(column) for column in zip(*parts, strict=True)))


def nearest_earlier(rows: Tensor, chunk_rows: int = 1024) -> Neighbours:
    """Return for each row the one before it of the largest cosine (n x 1); the first row has none. O(n^2 D)."""
    units = UnitNorm()(rows.to(torch.float64))
    found = Neighbours(torch.full((len(rows), 1), -1), torch.full((len(rows), 1), float("nan"), dtype=torch.float64))
    for start in range(0, len(rows), chunk_rows):
        part = units[start : start + chunk_rows]
        cosines = part @ units[: start + len(part)].mT
        later = torch.ones_like(cosines, dtype=torch.bool).triu(start)
        best = _largest(cosines.masked_fill(later, float("-inf")), 1)
        first = 1 if start == 0 else 0
        found.indices[start + first : start + len(part)] = best.indices[first:]
        found.cosines[start + first : start + len(part)] = best.cosines[first:]
    return found


def _largest(values: Tensor, count: int) -> Neighbours:
    """Return the largest of each row of values (r x m), the lowest index first among equals."""
    if count == 1:
        index = values.argmax(dim=1, keepdim=True)
    else:
        index = values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return Neighbours(index, values.gather(1, index).clamp(-1.0, 1.0))
