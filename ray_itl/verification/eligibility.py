"""Which of some rows the limits of a run left open at each of its picks, from pairs of rows and a count of the picks.

How alike rows are is computed for all pairs; what costs and quotas leave room for is counted in `room`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ray_itl.core.posterior import Targets
from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.core.rules import cosines, unit_rows
from ray_itl.curation.problem import Problem
from ray_itl.verification.room import Room

_CHUNK_CELLS = 1 << 22


class Breach(NamedTuple):
    """A pick that the limits did not allow at its step."""

    rank: int
    picked: int | str
    reason: str


class Walk(NamedTuple):
    """What was found along the picks."""

    open_rows: Mapping[int, np.ndarray]
    """Number of picks -> which rows may come next: R bool."""
    breaches: list[Breach]


@dataclass(frozen=True)
class Eligibility:
    """R distinct pool rows, the picks among them, before the limits of a problem."""

    problem: Problem
    rows: Tensor
    """Features as the shards held them, R x D float64."""
    ids: np.ndarray
    """R row ids."""
    picks: np.ndarray
    """Indices into `rows` of the n picks, in order."""
    costs_and_groups: CostsAndGroups
    """Of the R rows."""
    excluded: np.ndarray
    """R bool: rows named by a list, nearly equal to a held-out one, or picked before the run."""

    def walk(self, steps: Collection[int], pool_is_whole: bool) -> Walk:
        """Return which rows are open after these numbers of picks (0 to n), and every pick that was not.

        Where no row compared is open before a pick, neither is any row of the pool: minimums are given up as in the
        run. After the last pick that is known only of a pool that is compared whole. O(n R) beside O(R n D) for
        likeness to picks, and what n steps of the quotas take.
        """
        room = Room.of(self.problem.limits, self.problem.selection.n)
        open_rows, breaches = {}, []
        for step in range(len(self.picks) + 1):
            last = step == len(self.picks)
            allowed = not last and self._lets_through(room, step)
            if step in steps or not allowed:
                room, largest, mask = self._open(room, step, gives_up=pool_is_whole or not last)
                open_rows[step] = mask
                if not last and not mask[self.picks[step]]:
                    picked = self.ids[self.picks[[step]]].tolist()[0]
                    breaches.append(Breach(step + 1, picked, self._reason(room, largest, step)))
        return Walk(open_rows, breaches)

    def _before(self, step: int) -> tuple[list[float], np.ndarray]:
        """Return what the picks before a step cost, and their groups."""
        picks = self.picks[:step]
        return self.costs_and_groups.costs[picks].tolist(), self.costs_and_groups.groups.numpy()[picks]

    def _open(self, room: Room, step: int, gives_up: bool) -> tuple[Room, np.ndarray, np.ndarray]:
        """Return the room without the minimums that turned out to have no row, its costs, and which rows are open."""
        free = self._ends > step
        while True:
            largest = room.largest_costs(*self._before(step))
            mask = free & (self.costs_and_groups.costs.numpy() <= largest[self.costs_and_groups.groups.numpy()])
            relaxed = room.without_what_cannot_be(*self._before(step)) if gives_up and not mask.any() else None
            if relaxed is None:
                return room, largest, mask
            room = relaxed

    def _lets_through(self, room: Room, step: int) -> bool:
        pick = self.picks[[step]]
        largest = room.largest_costs(*self._before(step), self.costs_and_groups.groups.numpy()[pick])
        return bool(self._ends[pick[0]] > step and float(self.costs_and_groups.costs[pick[0]]) <= largest[0])

    @cached_property
    def _ends(self) -> np.ndarray:
        """After how many picks each row is out, but for costs and quotas: R int64, n + 1 where none puts it out."""
        n, distance = len(self.picks), self.problem.selection.min_distance
        ends = np.full(len(self.rows), n + 1)
        step = max(1, _CHUNK_CELLS // max(1, len(self.rows)))
        for first in range(0, 0 if distance is None else n, step):
            alike = _alike(self.rows, self.rows[self.picks[first : first + step]], distance or 0.0)
            found = alike.any(axis=1) & (ends > n)
            ends[found] = first + alike[found].argmax(axis=1) + 1
        if not self.problem.selection.replacement:
            np.minimum.at(ends, self.picks, np.arange(1, n + 1))
        ends[self.excluded | self._near_others | self._unlike_targets] = 0
        return ends

    @cached_property
    def _near_others(self) -> np.ndarray:
        """Which rows are too near to known rows or targets: R bool."""
        chosen, near = self.problem.selection, np.zeros(len(self.rows), dtype=bool)
        others = []
        if chosen.min_distance is not None and self.problem.known is not None:
            others.append((self.problem.known, chosen.min_distance))
        if chosen.near_target == "exclude":
            others.append((self.problem.targets.rows, chosen.target_distance))
        for points, distance in others:
            step = max(1, _CHUNK_CELLS // max(1, len(points)))
            for first in range(0, len(self.rows), step):
                part = slice(first, first + step)
                near[part] |= _alike(self.rows[part], points, distance).any(axis=1)
        return near

    @cached_property
    def _unlike_targets(self) -> np.ndarray:
        """Which rows are less like every target than the floor of the run: R bool."""
        floor, targets = self.problem.limits.floor, self.problem.targets
        if floor is None:
            return np.zeros(len(self.rows), dtype=bool)
        return nearest_cosines(self.rows, targets) < floor.limit

    def _reason(self, room: Room, largest: np.ndarray, step: int) -> str:
        """Return why a pick was not open."""
        pick = int(self.picks[step])
        end, group, cost = (
            int(self._ends[pick]),
            int(self.costs_and_groups.groups[pick]),
            float(self.costs_and_groups.costs[pick]),
        )
        if self.excluded[pick]:
            return "it is excluded by a list or as nearly equal to a held-out row, or was picked before the run"
        if self._near_others[pick]:
            return "it is too near to a target or a known row (selection.near_target, selection.min_distance)"
        if self._unlike_targets[pick]:
            return "its cosine to every target is below selection.min_similarity"
        if end <= step:
            same = self.picks[end - 1] == pick
            return f"it {'is' if same else 'is nearer than selection.min_distance to'} the pick of rank {end}"
        most = float(largest[group])
        if room.bounds and not np.isfinite(most):
            return f"selection.quotas and selection.budget leave no room for {room.words(group)}"
        return f"it costs {cost:g}, of which selection.budget and what it holds back for minimums leave {most:g}"


def nearest_cosines(rows: Tensor, targets: Targets) -> np.ndarray:
    """Return the cosine of each of n rows to the nearest target that has a weight and a direction: n; 0 without any."""
    units = unit_rows(targets.rows[targets.weights > 0])
    units, found = units[units.square().sum(dim=1) > 0], np.zeros(len(rows))
    step = max(1, _CHUNK_CELLS // max(1, len(units)))
    for first in range(0, len(rows) if len(units) else 0, step):
        found[first : first + step] = cosines(rows[first : first + step], units).numpy().max(axis=1)
    return found


def _alike(rows: Tensor, points: Tensor, distance: float) -> np.ndarray:
    """Return which of n rows are nearer than a distance to each of k points: n x k bool."""
    return (cosines(rows, unit_rows(points)) > 1.0 - distance).numpy()
