"""A selection problem: pool, targets and known rows in one feature space, the rule, and the limits.

Targets may belong to several tasks, whose gains are summed, each with a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.baselines import BaselineRule, select_baseline
from ray_itl.core.features import FeatureMap
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.limits import Limits, ShareTarget
from ray_itl.core.linalg import moment_rows
from ray_itl.core.messages import Precision
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import Posterior, Targets, target_variance
from ray_itl.core.result import GreedyResult, Progress
from ray_itl.core.trajectory import Pick
from ray_itl.curation.heldout import Contamination, HeldOut
from ray_itl.curation.percentage import percentage
from ray_itl.curation.settings import SelectionSettings
from ray_itl.errors import ConfigError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import CostGroupColumns
from ray_itl.sources.written import nearest_words

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
        raise ConfigError(
            f"target.task_weights: the targets have no task {unknown[0]!r}: {nearest_words(unknown[0], found)}"
        )
    if len(found) > _MAX_TASKS:
        raise ConfigError(
            f"target.task_column: {len(found):,} tasks, more than {_MAX_TASKS}: each adds a score to every row of the "
            "pool. Put some together, or give targets of one task weights by target.weight_column"
        )
    places = {name: [i for i, each in enumerate(names) if each == name] for name in found}
    return tuple(Task(name, float(weights.get(name, 1.0)), torch.tensor(places[name])) for name in found)


def objectives_of(
    targets: Targets, tasks: Sequence[Task], avoid: Targets | None, avoid_weight: float
) -> list[tuple[Targets, float]]:
    """Return what gains are about, and how much each counts: the targets of every task, the rows to avoid (below 0)."""
    samples = [(task.of(targets), task.weight) for task in tasks] or [(targets, 1.0)]
    return samples if avoid is None else [*samples, (avoid, -avoid_weight)]


@dataclass(frozen=True)
class Problem:
    """Everything a selection needs but the pool's rows themselves."""

    source: PoolSource
    feature_map: FeatureMap
    targets: Targets
    """In feature space."""
    target_ids: np.ndarray | None
    known: Tensor | None
    """Known rows in feature space, K x D float64."""
    acquisition: Acquisition
    """The sequential rule; for a baseline, the ITL by which its picks are valued."""
    selection: SelectionSettings
    baseline: BaselineRule | None = None
    excluded: np.ndarray | None = None
    """Positions (distinct) of rows that may not be picked."""
    limits: Limits = field(default_factory=Limits)
    cost_group_columns: CostGroupColumns | None = None
    """Where costs and groups of rows come from, if limits look at any."""
    avoid: Targets | None = None
    """In feature space: what the picks should say nothing about."""
    avoid_weight: float = 1.0
    tasks: tuple[Task, ...] = ()
    """What the targets are about, where that is more than one task."""
    at_first: Problem | None = None
    """Before the first pick of all ticks, where this is a later one: uncertainty is a share of what it was then."""
    num_before: int = 0
    """Picks of earlier ticks."""
    noise_is_relative: bool = False
    """Whether the rule's noise variance is in units of the pool's mean squared norm, until that is known."""
    skipped: BadRows = field(default_factory=BadRows)
    """Bad rows that are passed over; they are among those excluded."""
    heldout: HeldOut | None = None
    """What the model is to be tested on."""
    contamination: Contamination = field(default_factory=Contamination.none)
    """Rows nearly equal to what is held out, that could have been picked otherwise; they are among those excluded."""
    nothing_to_pick: bool = False
    """Whether no row at all may be picked, so that the pool need not be loaded."""
    target_source: PoolSource | None = None
    """Where the targets are, with what else is known of them."""
    notes: tuple[str, ...] = ()
    """What of the options may not be as meant, a sentence each."""
    contents: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Of target, known or avoid, where they were embedded: of how many rows, the first, and a digest of what was
    embedded, and by which encoder."""

    @property
    def num_rows(self) -> int:
        """Number of rows that can be used."""
        return self.source.num_rows - len(self.skipped)

    @property
    def num_free(self) -> int:
        """Number of rows that may be picked."""
        return self.source.num_rows - (0 if self.excluded is None else len(self.excluded))

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self.feature_map.dim(self.source.dim)

    @property
    def fewest_targets(self) -> float:
        """How many targets there are, of the task that has fewest: one of weight 2 is two."""
        weights = self.targets.weights
        return min(float(own.sum()) for own in ([weights[task.members] for task in self.tasks] or [weights]))

    @cached_property
    def posterior(self) -> Posterior:
        """The weight posterior before the first pick."""
        prior = Posterior.prior(self.dim)
        return prior if self.known is None else prior.condition_on_rows(self.known, self.acquisition.noise_variance)

    @property
    def first_posterior(self) -> Posterior:
        """The posterior before the first pick of all ticks, if this is one."""
        return self.posterior if self.at_first is None else self.at_first.posterior

    @cached_property
    def uncertainty_before(self) -> float:
        """Share of the targets' variance that the picks of earlier ticks left; 1 without."""
        if self.at_first is None:
            return 1.0
        first, now = (target_variance(p, self.targets) for p in (self.first_posterior, self.posterior))
        return now / first if first > 0 else 1.0

    @property
    def importance(self) -> Tensor:
        """c, M float64: how much the gain about each target counts, by its task."""
        importance = torch.ones(len(self.targets.rows), dtype=torch.float64)
        for task in self.tasks:
            importance[task.members] = task.weight
        return importance

    @property
    def objectives(self) -> list[tuple[Targets, float]]:
        """What gains are about, and how much each counts (see `objectives_of`)."""
        return objectives_of(self.targets, self.tasks, self.avoid, self.avoid_weight)

    def at_most_all(self) -> Problem:
        """Return the problem of picking n rows, or all that may be picked where they are fewer."""
        chosen = (
            self.selection
            if percentage(self.selection.n)
            else replace(self.selection, n=max(1, min(self.selection.n, self.num_free)))
        )
        return replace(self, selection=chosen, nothing_to_pick=self.num_free == 0)

    def with_number(self) -> Problem:
        """Return the problem with n as a number: a percentage is one of the rows that may be picked by now."""
        return replace(self, selection=self.selection.among(0 if self.nothing_to_pick else self.num_free))

    def _limits_on(self, pool: Pool) -> Limits:
        """Return the limits; where a share of what can be learnt is asked for, what that is takes a pass."""
        if self.selection.share is None:
            return self.limits
        root, noise = self.targets.moment_root(), self.acquisition.noise_variance
        whole = self.posterior.condition_on_rows(moment_rows(pool.second_moment()), noise)
        first, last = (target_variance(posterior, self.targets) for posterior in (self.posterior, whole))
        return replace(
            self.limits, share_target=ShareTarget(root, first, first - self.selection.share * (first - last))
        )

    def start(self) -> AcquisitionState:
        """Return the acquisition's state before the first pick."""
        return self.acquisition.start(self.posterior, *(sample for sample, _ in self.objectives))

    def solve(
        self,
        pool: Pool,
        earlier: list[tuple[Pick, Tensor]],
        on_progress: Callable[[Progress], None] | None = None,
        screening: Precision | None = None,
        may_copy: bool = True,
    ) -> GreedyResult:
        """Pick `selection.n` rows of the pool, fewer where `selection.min_gain` says so.

        Args:
            pool: All rows.
            earlier: The picks of an interrupted run.
            on_progress: Told of every accepted block.
            screening: See `GreedySelector`.
            may_copy: See `GreedySelector`.
        """
        if self.baseline is not None:
            return self.solve_by_baseline(pool, self.baseline, self.selection.n)
        selector = GreedySelector(
            pool,
            self.acquisition,
            self.start(),
            self.selection.replacement,
            on_progress=on_progress,
            limits=self._limits_on(pool),
            excluded=np.empty(0, dtype=np.int64) if self.excluded is None else self.excluded,
            screening=screening,
            may_copy=may_copy,
        )
        return selector.select(self.selection.n, earlier)

    def solve_by_baseline(self, pool: Pool, rule: BaselineRule, n: int) -> GreedyResult:
        """Pick n rows of the pool by a baseline, valued by this problem's sequential rule."""
        tasks = [(task.of(self.targets), task.weight) for task in self.tasks]
        return select_baseline(
            pool,
            rule,
            self.targets,
            n,
            self.acquisition,
            self.start(),
            self.selection.seed,
            self.excluded,
            tasks,
            self.num_before,
        )


def tasks_left(problem: Problem, after: Posterior) -> list[dict[str, Any]]:
    """Return for every task its name, weight, number of targets, and the share of their variance that is left."""
    left = []
    for task in problem.tasks:
        own = task.of(problem.targets)
        first = target_variance(problem.first_posterior, own)
        share = target_variance(after, own) / first if first > 0 else 0.0
        left.append({"name": task.name, "weight": task.weight, "targets": len(task.members), "uncertainty_left": share})
    return left
