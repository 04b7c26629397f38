"""How like the targets rows are: the floor under what may be picked, and the picks beside the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.linalg import COSINE_GRID
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import Targets
from ray_itl.core.similarity_floor import nearest_steps, target_directions
from ray_itl.core.similarity_ranks import SettledFloor, settle_floor
from ray_itl.curation.percentage import share_of
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.observability.reporter import Reporter
from ray_itl.text import plural

SAMPLED_ROWS = 2000
"""Rows of the pool by which picks are judged: drawn by their ids, so that they are the same each time."""
_LIKE = Fraction(95, 100)
"""Picks are compared with the rows that are more like their nearest target than this share of the pool."""
_MANY_UNLIKE, _MANY_OPPOSITE = 1 / 4, 1 / 20
"""Shares of the picks from which on it is warned of them."""


def with_floor(
    problem: Problem, settings: CurationSettings, pool: Pool, reporter: Reporter
) -> tuple[Problem, dict[str, Any] | None]:
    """Return the problem with its floor, if `selection.min_similarity` asks for one, as a number. One pass then.

    Besides, what metrics.json says of it: its limit, and how many rows are not below it.

    Args:
        problem: With all that is known by now of rows that may not be picked.
        settings: The options.
        pool: All rows.
        reporter: Told what the number is, and how many rows it leaves.
    """
    asked = problem.selection.min_similarity
    if asked is None:
        return problem, None
    with reporter.stage("similarity", f"comparing all rows with {plural(len(problem.targets.rows), 'target')}"):
        settled = settled_floor(problem, pool, problem.targets)
    is_tick, n = settings.state.dir is not None, problem.selection.n
    rows = f"{settled.num_rows:,} {'candidates of this tick' if is_tick else 'rows that may be picked'}"
    found = {"limit": settled.floor.limit, "rows": settled.num_left}
    reporter.info(f"  selection.min_similarity={asked} of {rows}: {floor_words(found)}")
    if settled.num_left < n and not problem.selection.replacement and not is_tick:
        reporter.warn(
            f"selection.min_similarity={asked} leaves {plural(settled.num_left, 'row')}, fewer than selection.n={n}: "
            "lower it to pick as many"
        )
    return replace(problem, limits=replace(problem.limits, floor=settled.floor)), found


def settled_floor(problem: Problem, pool: Pool, targets: Targets) -> SettledFloor:
    """Return the floor that some targets set by `selection.min_similarity`, which is set. One pass."""
    asked = problem.selection.min_similarity
    excluded = np.empty(0, dtype=np.int64) if problem.excluded is None else problem.excluded
    share = share_of(asked)
    return settle_floor(pool, target_directions(targets), asked if share is None else share, excluded)


def floor_words(found: Mapping[str, Any]) -> str:
    """Say how many rows a floor leaves."""
    return (
        f"{plural(found['rows'], 'row')} have a cosine of at least {found['limit']:.6g} to a target: no other is picked"
    )


def likeness_of(problem: Problem, picks: Tensor, sample: Tensor) -> dict[str, Any]:
    """Return what metrics.json says of how like the targets the picks are.

    `pool_similarity` is the cosine to the nearest target below which no more than 95% of the sampled rows lie, and
    `picks_below` counts the picks below it; `picks_unlike` those below half of it, which `pool_unlike` is the share of
    the sampled rows of; `picks_opposite` those whose cosine to every target is negative.

    Args:
        problem: Its targets.
        picks: Features, n x D float64.
        sample: Features of rows of the pool, k x D.
    """
    directions = target_directions(problem.targets)
    own, pool = nearest_steps(picks, directions), nearest_steps(sample, directions).sort().values
    limit = int(pool[min(int(_LIKE * len(pool)), len(pool) - 1)])
    return {
        "pool_similarity": limit / COSINE_GRID,
        "pool_unlike": float((2 * pool < limit).double().mean()),
        "sampled_rows": len(pool),
        "picks_below": int((own < limit).sum()),
        "picks_unlike": int((2 * own < limit).sum()),
        "picks_opposite": int((own < 0).sum()),
    }


def likeness_words(found: Mapping[str, Any]) -> str:
    """Say how many picks are unlike the targets."""
    return (
        f"{found['picks_below']:,} are less like every target than the 5% of the pool that are most like one (cosine "
        f"{found['pool_similarity']:.3g}, judged by {plural(found['sampled_rows'], 'row')}), "
        f"{found['picks_unlike']:,} not half as like, and {found['picks_opposite']:,} have a negative cosine to every "
        "target"
    )


def unlike_targets(problem: Problem, num_picks: int, found: Mapping[str, Any]) -> str | None:
    """Return a sentence where many picks are unlike every target, by a rule that picks for them, and no floor is set.

    More than one in four of the picks not half as like a target as the 5% of the pool that are most like one, or more
    than one in twenty opposite to all, not counting those for which the other rows of the pool have no room.
    """
    is_directed = problem.baseline is None and not isinstance(problem.acquisition, Uncertainty)
    if not is_directed or problem.limits.floor is not None:
        return None
    crowded_out = max(0.0, num_picks - (1 - found["pool_unlike"]) * problem.num_free)
    unlike, opposite = found["picks_unlike"] - crowded_out, found["picks_opposite"] - crowded_out
    if unlike <= _MANY_UNLIKE * num_picks and opposite <= _MANY_OPPOSITE * num_picks:
        return None
    why = "they may be of another task"
    if opposite > 0:
        why = "a row opposite to a target tells a linear model as much as one like it, but is seldom worth training on"
    return (
        f"Of {num_picks:,} picks {likeness_words(found)}: {why}. To pick rows more like the "
        "targets, set selection.min_similarity=95%, raise acquisition.relative_noise "
        "(tenfold, say), or try other pool.features."
    )
