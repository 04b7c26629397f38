"""The baselines: nearest (round robin over targets, as RDS+), cosine (mean similarity) and random."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.features import UnitNorm
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import Targets
from ray_itl.core.ranking import RankedRows, RankQuery, round_robin
from ray_itl.core.result import GreedyResult, GreedyStats
from ray_itl.core.trajectory import Pick
from ray_itl.errors import ConfigError

BaselineRule = Literal["nearest", "cosine", "random"]


def select_baseline(
    pool: Pool,
    rule: BaselineRule,
    targets: Targets,
    n: int,
    acquisition: Acquisition,
    state: AcquisitionState,
    seed: int = 0,
    excluded: np.ndarray | None = None,
) -> GreedyResult:
    """Pick n rows by a baseline rule, each valued by what an acquisition says it was worth given those before it.

    Args:
        pool: All rows.
        rule: nearest: each target of positive weight in turn takes its most cosine-similar row not yet picked (round
            robin, as RDS+). cosine: the rows of largest weighted mean cosine similarity to the targets. random: uniform
            without replacement, fixed by the seed and the row ids. Ties go to the smaller id.
        targets: The target sample.
        n: Number of picks.
        acquisition: The rule by which picks are valued.
        state: Its state before the first pick.
        seed: Of the random rule.
        excluded: Positions (distinct) of rows that are passed over.

    Returns:
        The picks. A pass or few over the pool, O(N D M), and O(n D r).

    Raises:
        ConfigError: n is not between 1 and the number of rows.
    """
    excluded = np.empty(0, dtype=np.int64) if excluded is None else excluded
    available = pool.num_rows - len(excluded)
    if not 1 <= n <= available:
        raise ConfigError(f"selection.n={n}, but the pool has {available} rows to pick from: ask for 1 to that many")
    stats = GreedyStats(precision="float64")
    ranked, order = _rank(pool, rule, targets, n, seed, stats, excluded)
    features = ranked.rows.features[order].to(torch.float64)
    picks = []
    for place, row in zip(order, features, strict=True):
        gain = float(acquisition.gain(state.scores(row[None]))[0])
        row_id = ranked.rows.ids[place : place + 1].tolist()[0]
        picks.append(Pick(int(ranked.rows.positions[place]), row_id, gain))
        state = state.condition(row)
    return GreedyResult(picks, features, state, stats)


def _rank(
    pool: Pool, rule: BaselineRule, targets: Targets, n: int, seed: int, stats: GreedyStats, excluded: np.ndarray
) -> tuple[RankedRows, list[int]]:
    """Return ranked rows and the places among them of the n picks, in order."""
    directions = _directions(rule, targets)
    count = n if len(directions) == 1 else min(pool.num_rows, 2 * -(-n // len(directions)) + 8)
    count = min(pool.num_rows, count + len(excluded))
    while True:
        ranked = pool.rank(RankQuery("random" if rule == "random" else "cosine", directions, count, seed))
        stats.passes += 1
        dealt = round_robin(ranked, n, np.isin(ranked.rows.positions, excluded))
        if dealt is not None:
            return ranked, dealt[0].tolist()
        count = min(pool.num_rows, 4 * count)


def _directions(rule: BaselineRule, targets: Targets) -> Tensor:
    if rule == "random":
        return torch.zeros(1, targets.rows.shape[1], dtype=torch.float64)
    present = targets.weights > 0
    units = UnitNorm()(targets.rows[present])
    if rule == "nearest":
        return units
    weights = targets.weights[present]
    return (weights / weights.sum() @ units)[None]
