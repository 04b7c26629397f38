"""Several tasks among the targets: their gains are summed, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.uncertainty import target_variance
from ray_itl.errors import ConfigError

_MAX_TASKS = 16


@dataclass(frozen=True)
class Task:
    """One of several tasks."""

    name: str
    weight: float
    """c_t: how much its gain counts."""
    members: Tensor
    """Indices of its targets, int64, ascending."""

    def of(self, targets: Targets) -> Targets:
        """Return its targets alone."""
        return Targets(targets.rows[self.members], targets.weights[self.members])


def tasks_among(names: Sequence[str], weights: Mapping[str, float]) -> tuple[Task, ...]:
    """Return the tasks that targets belong to, by name, so that no order of targets decides anything.

    Args:
        names: The task of each target.
        weights: Task -> weight, where it is not 1.

    Raises:
        ConfigError: a weight for a task that there is not, or more than 16 tasks, of which each costs memory and time
            for every row of the pool.
    """
    found = sorted(set(names))
    unknown = sorted(set(weights) - set(found))
    if unknown:
        shown = ", ".join(found[:_MAX_TASKS])
        raise ConfigError(
            f"target.task_weights: the targets have no task {unknown[0]!r}; they have {shown}: name these"
        )
    if len(found) > _MAX_TASKS:
        raise ConfigError(
            f"target.task_column: {len(found):,} tasks, more than {_MAX_TASKS}: each adds a score to every row of the "
            "pool. Put some together, or give targets of one task weights by target.weight_column"
        )
    places = {name: [i for i, each in enumerate(names) if each == name] for name in found}
    return tuple(Task(name, float(weights.get(name, 1.0)), torch.tensor(places[name])) for name in found)


def samples_of(
    targets: Targets, tasks: Sequence[Task], avoid: Targets | None, avoid_weight: float
) -> list[tuple[Targets, float]]:
    """Return what gains are about, and how much each counts: the targets of every task, the rows to avoid (below 0)."""
    samples = [(task.of(targets), task.weight) for task in tasks] or [(targets, 1.0)]
    return samples if avoid is None else [*samples, (avoid, -avoid_weight)]


def tasks_left(tasks: Sequence[Task], targets: Targets, before: Posterior, after: Posterior) -> list[dict[str, Any]]:
    """Return for every task its name, weight, number of targets, and the share of their variance that is left."""
    left = []
    for task in tasks:
        own = task.of(targets)
        first = target_variance(before, own)
        share = target_variance(after, own) / first if first > 0 else 0.0
        left.append({"name": task.name, "weight": task.weight, "targets": len(task.members), "uncertainty_left": share})
    return left
