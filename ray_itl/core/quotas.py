"""Quotas: how many picks may, and must, have each value of some columns of the pool."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Quota:
    """Bounds on the number of picks for each of V values of one column."""

    column: str
    values: tuple[str, ...]
    """Names of the values."""
    least: np.ndarray
    """V int64."""
    most: np.ndarray
    """V int64."""


@dataclass(frozen=True)
class Quotas:
    """Quotas on any number of columns at once, over G groups: the combinations of values that occur in the pool.

    Minimums hold back slots: a group may be picked from only if all minimums can still be met afterwards within the
    slots left, the maximums, and the rows that there are. For one column this is a count; for several an integer
    program (solved by HiGHS), asked only when the last answer does not settle it.
    """

    columns: tuple[Quota, ...]
    cells: np.ndarray
    """G x columns int64: the place of the group's value among those of each column."""
    rows: np.ndarray
    """G int64: rows of the pool in each group."""
    picked: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """G int64: picks from each group so far."""

    def __post_init__(self) -> None:
        """Start without picks."""
        if len(self.picked) != len(self.rows):
            object.__setattr__(self, "picked", np.zeros_like(self.rows))

    def take(self, group: int) -> Quotas:
        """Return the quotas after a pick from a group."""
        picked = self.picked.copy()
        picked[group] += 1
        return replace(self, picked=picked)

    @cached_property
    def missing(self) -> tuple[np.ndarray, ...]:
        """For each column, what each value still lacks."""
        return tuple(np.maximum(q.least - count, 0) for q, count in zip(self.columns, self.counts, strict=True))

    @cached_property
    def is_below_max(self) -> np.ndarray:
        """Which groups' values are all below their maximum: G bool."""
        below = np.ones(len(self.rows), dtype=bool)
        for place, (quota, count) in enumerate(zip(self.columns, self.counts, strict=True)):
            below &= (count < quota.most)[self.cells[:, place]]
        return below

    def allowed(self, slots: int) -> np.ndarray:
        """Return which groups the next pick may come from, with this many picks left to make: G bool."""
        below_max = self.is_below_max
        lacking = [place for place, deficit in enumerate(self.missing) if deficit.any()]
        if not lacking:
            return below_max
        if len(self.columns) == 1:
            deficit = self.missing[0]
            return below_max & ((deficit[self.cells[:, 0]] > 0) | (int(deficit.sum()) < slots))
        return self._allowed_by_program(slots)

    def relax(self, open_groups: np.ndarray) -> Quotas:
        """Return the quotas without the minimums that only some groups could still fill, which have no row left."""
        columns = []
        for place, (quota, count) in enumerate(zip(self.columns, self.counts, strict=True)):
            exhausted = np.zeros(len(quota.values), dtype=bool)
            exhausted[self.cells[open_groups, place]] = True
            columns.append(replace(quota, least=np.where(exhausted, np.minimum(quota.least, count), quota.least)))
        return replace(self, columns=tuple(columns))

    def largest(self, n: int) -> int:
        """Return how many picks, up to n, the maximums allow; -1 where the minimums cannot be met within n."""
        most = self._solve(-1.0, n)
        return -1 if most is None else int(most.sum())

    @cached_property
    def counts(self) -> tuple[np.ndarray, ...]:
        """For each column, the picks of each value so far."""
        return self._by_value(self.picked)

    @cached_property
    def available(self) -> tuple[np.ndarray, ...]:
        """For each column, the rows of the pool of each value."""
        return self._by_value(self.rows)

    def _by_value(self, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the sums of the groups' numbers (G int64) over each value of each column."""
        return tuple(
            np.bincount(self.cells[:, place], weights=numbers, minlength=len(quota.values)).astype(np.int64)
            for place, quota in enumerate(self.columns)
        )

    def _allowed_by_program(self, slots: int) -> np.ndarray:
        """Return which groups `allowed` names, where minimums of several columns interlock.

        A group is allowed if the minimums can still be met after a pick from it. An integer program for each would say;
        one answers for most of them.
        """
        allowed = self.is_below_max.copy()
        plan = self._fewest(slots)
        if plan is None:
            return np.zeros_like(allowed)
        for group in np.flatnonzero(allowed).tolist():
            # The plan for the fewest picks proves a group allowed if it picks from the group itself, or leaves a slot
            # for a pick that breaks no maximum. Only for the groups it says nothing about is a program solved.
            if plan[group] > 0 or (plan.sum() < slots and self._fits(plan, group)):
                continue
            allowed[group] = self.take(group)._fewest(slots - 1) is not None
        return allowed

    def _fits(self, plan: np.ndarray, group: int) -> bool:
        """Whether a pick from a group leaves a plan possible."""
        if self.picked[group] + plan[group] >= self.rows[group]:
            return False
        for place, (quota, count) in enumerate(zip(self.columns, self.counts, strict=True)):
            value = self.cells[group, place]
            planned = plan[self.cells[:, place] == value].sum()
            if count[value] + planned >= quota.most[value]:
                return False
        return True

    def _fewest(self, slots: int) -> np.ndarray | None:
        """Return the fewest picks from each group that meet all minimums; None if there is no way within the slots."""
        return self._solve(1.0, slots)

    def _solve(self, sign: float, slots: int) -> np.ndarray | None:
        """Return further picks from each group, of the smallest sum times `sign`, within all bounds; None if none."""
        # Loaded only by those who set quotas. Typed loosely: its stubs know of bounds that are numbers only.
        optimize: Any = import_module("scipy.optimize")
        size = len(self.rows)
        bounds = optimize.Bounds(np.zeros(size), np.maximum(self.rows - self.picked, 0))
        limits = [optimize.LinearConstraint(*bound) for bound in self._bounds(slots)]
        answer = optimize.milp(np.full(size, sign), integrality=np.ones(size), bounds=bounds, constraints=limits)
        return np.round(answer.x).astype(np.int64) if answer.success else None

    def _bounds(self, slots: int) -> list[tuple[np.ndarray, np.ndarray | int, np.ndarray | int]]:
        """Return (matrix, least, most) of further picks (G) by column, and of their sum."""
        found: list[tuple[np.ndarray, np.ndarray | int, np.ndarray | int]] = [(np.ones((1, len(self.rows))), 0, slots)]
        for place, (quota, count) in enumerate(zip(self.columns, self.counts, strict=True)):
            member = (self.cells[:, place][None] == np.arange(len(quota.values))[:, None]).astype(float)
            found.append((member, quota.least - count, np.maximum(quota.most - count, 0)))
        return found
