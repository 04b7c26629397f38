"""The baselines: nearest (round robin over targets, as RDS+), cosine (mean similarity, as LESS) and random.

RDS+: Ivison et al., 2025, arXiv 2503.01807. LESS: Xia et al., 2024, arXiv 2402.04333. Their features are the
model's affair; their rules are these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.features import UnitNorm
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import Targets
from ray_itl.core.ranking import RankedRows, RankQuery, best_of_any, round_robin
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
    tasks: Sequence[tuple[Targets, float]] = (),
    num_before: int = 0,
) -> GreedyResult:
    """Pick n rows by a baseline rule, each valued by what an acquisition says it was worth given those before it.

    Args:
        pool: All rows.
        rule: nearest: each target of positive weight in turn takes its most cosine-similar row not yet picked (round
            robin, as RDS+). cosine: the rows of largest weighted mean cosine similarity to the targets; of several
            tasks, to those of any one of them (as LESS). random: uniform without replacement, fixed by the seed and the
            row ids. Ties go to the smaller id.
        targets: The target sample.
        n: Number of picks.
        acquisition: The rule by which picks are valued.
        state: Its state before the first pick.
        seed: Of the random rule.
        excluded: Positions (distinct) of rows that are passed over.
        tasks: For cosine, the targets of each task, and what similarities to them are multiplied by (> 0). Empty: they
            are one task.
        num_before: How many rows were picked before, so that nearest goes on with the target whose turn it is: picks
            in several goes are then those of one.

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
    directions = _directions(rule, targets, tasks)
    directions = directions.roll(-(num_before % len(directions)), dims=0) if rule == "nearest" else directions
    ranked, order = _rank(pool, rule, directions, n, seed, stats, excluded)
    features = ranked.rows.features[order].to(torch.float64)
    picks = []
    for place, row in zip(order, features, strict=True):
        gain = float(acquisition.gain(state.scores(row[None]))[0])
        row_id = ranked.rows.ids[place : place + 1].tolist()[0]
        picks.append(Pick(int(ranked.rows.positions[place]), row_id, gain))
        state = state.condition(row)
    return GreedyResult(picks, features, state, stats)


def _rank(
    pool: Pool, rule: BaselineRule, directions: Tensor, n: int, seed: int, stats: GreedyStats, excluded: np.ndarray
) -> tuple[RankedRows, list[int]]:
    """Return ranked rows and the places among them of the n picks, in order."""
    deal = round_robin if rule == "nearest" else best_of_any
    # Whoever is among the n best of all is so in one of the lists; taking turns, no list is walked far.
    count = n if rule != "nearest" or len(directions) == 1 else min(pool.num_rows, 2 * -(-n // len(directions)) + 8)
    count = min(pool.num_rows, count + len(excluded))
    while True:
        ranked = pool.rank(RankQuery("random" if rule == "random" else "cosine", directions, count, seed))
        stats.passes += 1
        dealt = deal(ranked, n, np.isin(ranked.rows.positions, excluded))
        if dealt is not None:
            return ranked, dealt[0].tolist()
        count = min(pool.num_rows, 4 * count)


def _directions(rule: BaselineRule, targets: Targets, tasks: Sequence[tuple[Targets, float]]) -> Tensor:
    """Return what similarities are to, as rows of norm at most 1."""
    if rule == "random":
        return torch.zeros(1, targets.rows.shape[1], dtype=torch.float64)
    if rule == "nearest":
        return UnitNorm()(targets.rows[targets.weights > 0])
    samples = [(sample, weight) for sample, weight in tasks or [(targets, 1.0)] if (sample.weights > 0).any()]
    largest = max(weight for _, weight in samples)
    return torch.stack([weight / largest * _mean_direction(sample) for sample, weight in samples])


def _mean_direction(targets: Targets) -> Tensor:
    """Return the weighted mean of targets of norm 1, D float64: its products with unit rows are mean cosines."""
    present = targets.weights > 0
    weights = targets.weights[present]
    return weights / weights.sum() @ UnitNorm()(targets.rows[present])
