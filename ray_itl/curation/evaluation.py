"""Counting how many picks belong to the target task, beside what the simple rules would have picked."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pyarrow as pa

from ray_itl.core.baselines import BaselineRule
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import remaining_uncertainty
from ray_itl.core.result import GreedyResult
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import EvaluationSettings
from ray_itl.sources.base import PoolSource
from ray_itl.sources.column_values import values_of
from ray_itl.sources.values import comparable_type, keys_of
from ray_itl.sources.written import keys_for

_BASELINES: tuple[BaselineRule, ...] = ("nearest", "random")


@dataclass(frozen=True)
class OnTask:
    """How many picks of one rule belong to the task, and how many classes of the task they cover."""

    rule: str
    count: int
    share: float
    classes_found: int
    remaining_uncertainty: float
    """Share of the targets' variance left after the rule's picks: counting alone cannot tell near-copies apart."""


def absent_classes(source: PoolSource, settings: EvaluationSettings) -> list[str]:
    """Return a sentence for every class that no row of the pool has. Reads the class column once.

    Raises:
        ConfigError: a class that the column cannot hold, or a column without values to tell apart.
    """
    if settings.class_column is None:
        return []
    (found,) = values_of(source, [settings.class_column], "evaluation.class_column")
    keys = [found.key_of(value, "evaluation.classes") for value in settings.classes]
    return [found.absent(key, "evaluation.classes") for key in keys if found.complete and key not in found.keys]


def count_on_task(
    problem: Problem, pool: Pool, result: GreedyResult, rule: str, settings: EvaluationSettings
) -> list[dict]:
    """Return one record for the rule that ran and one for each rival, as plain dicts (see OnTask)."""
    results = {rule: result}
    for rival in _BASELINES:
        if rival != rule and len(result.picks) <= problem.num_free:
            results[rival] = problem.solve_by_baseline(pool, rival, len(result.picks))
    return [asdict(_count(problem, name, other, settings)) for name, other in results.items()]


def _count(problem: Problem, rule: str, result: GreedyResult, settings: EvaluationSettings) -> OnTask:
    column = settings.class_column or ""
    positions = result.positions
    values = problem.source.take(positions, [column]).column(column)
    kind = comparable_type(values.type) or pa.null()
    wanted = {key for value in settings.classes for key in keys_for(value, kind)}
    keys = [key for chunk in values.chunks for key in keys_of(chunk, kind)]
    found = [key for key in keys if key in wanted]
    noise = problem.acquisition.noise_variance
    left = float(remaining_uncertainty(problem.posterior, problem.targets, result.features, noise)[-1])
    left *= problem.uncertainty_before
    return OnTask(rule, len(found), len(found) / len(keys), len(set(found)), left)
