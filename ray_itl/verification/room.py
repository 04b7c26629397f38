"""What budget and quotas leave room for, counted anew from the picks before a step.

What is asked of the picks (bounds, the groups that the pool has, the cheapest costs) comes from options and pool; how
far some picks meet it, and what may come next, is counted here, by the definitions in docs/costs-and-quotas.md: nothing
of it is what the engine thought as it picked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ray_itl.core.limits import Limits


class Bounds(NamedTuple):
    """Bounds on the picks of each of V values of a column."""

    names: tuple[str, ...]
    """Of the values, as column=value."""
    least: np.ndarray
    """V int64."""
    most: np.ndarray
    """V int64."""


@dataclass(frozen=True)
class Room:
    """What a run of n picks is asked for, and which of its minimums were given up."""

    n: int
    budget: float
    bounds: tuple[Bounds, ...]
    """Of each column of the quotas."""
    cells: np.ndarray
    """G x columns int64: which value of each column the rows of a group have."""
    rows: np.ndarray
    """G int64: how many rows each group has."""
    reserved: int | None
    """The column whose minimums hold back money."""
    cheapest: tuple[tuple[float, ...], ...]
    """The costs of as many of the cheapest rows of each of its values as that must have, ascending."""

    @classmethod
    def of(cls, limits: Limits, n: int) -> Room:
        """Return the room before the first pick."""
        quotas, reserve = limits.quotas, limits.reserve
        bounds, cells, rows = [], np.zeros((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64)
        if quotas is not None:
            cells, rows = quotas.cells, quotas.rows
            bounds = [Bounds(tuple(f"{q.column}={v}" for v in q.values), q.least, q.most) for q in quotas.columns]
        cheapest = () if reserve is None else tuple(tuple(costs.tolist()) for costs in reserve.cheapest)
        return cls(n, limits.budget, tuple(bounds), cells, rows, None if reserve is None else reserve.column, cheapest)

    def largest_costs(self, costs: Sequence[float], groups: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
        """Return what a row of each group may cost at most, given cost and group of every pick before: float64.

        -inf where no row of the group may come. `of` are the groups to look at (all by default).
        """
        of = np.arange(len(self.rows)) if of is None else of
        counts = self._counts(groups)
        found = self.budget - math.fsum(costs) - self._held_back(of, costs, groups, counts)
        return np.where((found >= 0) & self._may_come(of, groups, counts), found, -math.inf)

    def without_what_cannot_be(self, costs: Sequence[float], groups: np.ndarray) -> Room | None:
        """Return the room without the minimums that the groups that may come would fill, none of whose rows is free.

        None where that changes nothing: then no row may come at all.
        """
        opened = self.largest_costs(costs, groups) > -math.inf
        counts, bounds = self._counts(groups), []
        for place, each in enumerate(self.bounds):
            given_up = np.isin(np.arange(len(each.least)), self.cells[opened, place])
            bounds.append(each._replace(least=np.where(given_up, np.minimum(each.least, counts[place]), each.least)))
        same = all(np.array_equal(a.least, b.least) for a, b in zip(bounds, self.bounds, strict=True))
        return None if same else replace(self, bounds=tuple(bounds))

    def use(self, costs: Sequence[float], groups: np.ndarray) -> list[dict[str, Any]]:
        """Return what picks use of every bound, as metrics.json has it."""
        found: list[dict[str, Any]] = []
        if math.isfinite(self.budget):
            found.append({"name": "budget", "used": math.fsum(costs), "max": self.budget})
        for each, count in zip(self.bounds, self._counts(groups), strict=True):
            for name, least, most, used in zip(each.names, each.least, each.most, count, strict=True):
                entry: dict[str, Any] = {"min": int(least)} if least else {}
                entry |= {"max": int(most)} if most < self.n else {}
                if entry:
                    entry = {"name": name, "used": int(used), **entry}
                    found.append(entry | ({"unmet": True} if used < least else {}))
        return found

    def words(self, group: int) -> str:
        """Name the values of a group."""
        return ", ".join(each.names[value] for each, value in zip(self.bounds, self.cells[group], strict=True))

    def _counts(self, groups: np.ndarray) -> list[np.ndarray]:
        """Return for each column how many picks have each value."""
        values = self.cells[groups]
        return [np.bincount(values[:, place], minlength=len(each.names)) for place, each in enumerate(self.bounds)]

    def _may_come(self, of: np.ndarray, groups: np.ndarray, counts: list[np.ndarray]) -> np.ndarray:
        """Return of which groups a row may come, so that all minimums can be met afterwards within all maximums."""
        slots = self.n - len(groups)
        free, lacking = np.ones(len(of), dtype=bool), np.zeros(len(of), dtype=np.int64)
        for place, (each, count) in enumerate(zip(self.bounds, counts, strict=True)):
            values = self.cells[of, place]
            deficit = np.maximum(each.least - count, 0)
            free &= (count + 1 <= each.most)[values]
            lacking = np.maximum(lacking, deficit.sum() - (deficit > 0)[values])
        free &= (lacking == 0) | (lacking <= slots - 1)
        if len(self.bounds) < 2 or not (free & (lacking > 0)).any():
            return free
        plan = self._completion(slots, counts, groups)
        if plan is None:
            return np.zeros(len(of), dtype=bool)
        for index in np.flatnonzero(free & (lacking > 0) & (plan[of] == 0)).tolist():  # the plan begins with any other
            group = int(of[index])
            after = [np.add(c, np.arange(len(c)) == v) for c, v in zip(counts, self.cells[group], strict=True)]
            free[index] = self._completion(slots - 1, after, np.append(groups, group)) is not None
        return free

    def _completion(self, slots: int, counts: list[np.ndarray], groups: np.ndarray) -> np.ndarray | None:
        """Return the fewest further picks from each group (G) that meet all minimums, by an integer program."""
        optimize: Any = import_module("scipy.optimize")  # typed loosely, for its stubs know of bounds that are numbers
        size = len(self.rows)
        limits = [optimize.LinearConstraint(np.ones((1, size)), 0, slots)]
        for place, (each, count) in enumerate(zip(self.bounds, counts, strict=True)):
            members = (self.cells[:, place] == np.arange(len(each.names))[:, None]).astype(float)
            limits.append(optimize.LinearConstraint(members, each.least - count, np.maximum(each.most - count, 0)))
        left = np.maximum(self.rows - np.bincount(groups, minlength=size), 0)
        bounds = optimize.Bounds(np.zeros(size), left)
        answer = optimize.milp(np.ones(size), integrality=np.ones(size), bounds=bounds, constraints=limits)
        return np.round(answer.x).astype(np.int64) if answer.success else None

    def _held_back(
        self, of: np.ndarray, costs: Sequence[float], groups: np.ndarray, counts: list[np.ndarray]
    ) -> np.ndarray | float:
        """Return what the minimums still cost at least, once a row of a group is picked."""
        if self.reserved is None:
            return 0.0
        values = self.cells[groups, self.reserved].tolist()
        lacking = np.maximum(self.bounds[self.reserved].least - counts[self.reserved], 0)
        needed, first = np.zeros(len(lacking)), np.zeros(len(lacking))
        for value in np.flatnonzero(lacking).tolist():
            taken = Counter(cost for cost, each in zip(costs, values, strict=True) if each == value)
            free = _without(self.cheapest[value], taken)[: lacking[value]]
            needed[value], first[value] = np.sum(free), free[0] if free else 0.0
        return needed.sum() - first[self.cells[of, self.reserved]]


def _without(costs: Sequence[float], taken: Counter[float]) -> list[float]:
    """Return costs without those that were taken, each as often as it was."""
    left, found = Counter(taken), []
    for cost in costs:
        if left[cost] > 0:
            left[cost] -= 1
        else:
            found.append(cost)
    return found
