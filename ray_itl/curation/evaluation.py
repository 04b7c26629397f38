"""Counting how many picks belong to the target task, beside what the simple rules would have picked."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ray_itl.core.baselines import BaselineRule
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import remaining_uncertainty
from ray_itl.core.result import GreedyResult
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import EvaluationSettings

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
    positions = np.array([pick.position for pick in result.picks], dtype=np.int64)
    values = problem.source.take(positions, [column]).column(column).to_pylist()
    found = [value for value in values if value in settings.classes]
    noise = problem.acquisition.noise_variance
    left = float(remaining_uncertainty(problem.posterior, problem.targets, result.features, noise)[-1])
    left *= problem.uncertainty_before
    return OnTask(rule, len(found), len(found) / len(values), len(set(found)), left)
