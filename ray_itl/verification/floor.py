"""Whether the floor that a run set under the similarity of rows to targets is the number that its options ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ray_itl.core.posterior import Targets
from ray_itl.curation.percentage import share_of
from ray_itl.shards.loading import rows_as_stored
from ray_itl.sources.bad_rows import BadRows
from ray_itl.verification.eligibility import nearest_cosines
from ray_itl.verification.reopen import ReopenedRun

_STEP = 2.0**-32
"""Of the grid of cosines, by which rounding may move one."""


@dataclass
class RecordedFloor:
    """A floor that a run records, and how the rows that might be picked lie beside it."""

    where: str
    """What records it, for the words about it."""
    targets: Targets
    limit: float
    num_left: int | None = None
    """How many rows it left, if that is recorded."""
    below: int = 0
    """Rows that are below it, however they are rounded."""
    above: int = 0
    """Likewise above it."""
    total: int = 0

    def count(self, similarities: np.ndarray) -> None:
        """Look at more rows."""
        self.below += int((similarities < self.limit - _STEP).sum())
        self.above += int((similarities > self.limit + _STEP).sum())
        self.total += len(similarities)

    def wrong(self, asked: str, share: Fraction) -> list[str]:
        """Return what is wrong, as lines: no more than the share may be below it, and more below any larger number."""
        found = []
        if not self.below <= min(int(share * self.total), self.total - 1) < self.total - self.above:
            words = f"{self.below:,} of {self.total:,} rows are below it, and {self.above:,} above"
            found.append(f"{self.where} says that selection.min_similarity={asked} was {self.limit!r}, but {words}")
        if self.num_left is not None and not self.above <= self.num_left <= self.total - self.below:
            there = f"there are {self.total - self.below:,}"
            found.append(f"{self.where} says that {self.num_left:,} rows are not below the floor, but {there}")
        return found


def wrong_floors(finished: ReopenedRun, floors: Sequence[RecordedFloor]) -> list[str]:
    """Return what is wrong with recorded floors, as lines. Reads the pool once where they are a share of it."""
    asked = finished.problem.selection.min_similarity
    share = share_of(asked)
    if share is None:
        return [
            f"{floor.where} says that selection.min_similarity={asked} was {floor.limit!r}"
            for floor in floors
            if floor.limit != asked
        ]
    problem, first = finished.problem, 0
    barred = np.empty(0, dtype=np.int64) if problem.excluded is None else problem.excluded
    for _, embeddings in problem.source.batches(0, problem.source.num_rows, BadRows()) if floors else ():
        inside = barred[(barred >= first) & (barred < first + len(embeddings))] - first
        first += len(embeddings)
        rows = rows_as_stored(problem.feature_map, np.delete(embeddings, inside, axis=0), finished.options.pool.dtype)
        for floor in floors:
            floor.count(nearest_cosines(rows, floor.targets))
    return [words for floor in floors for words in floor.wrong(asked, share)]


def wrong_floor(finished: ReopenedRun) -> list[str]:
    """Return what is wrong with the floor of a run for one target, as lines (see `wrong_floors`)."""
    problem, floor = finished.problem, finished.problem.limits.floor
    asked = problem.selection.min_similarity
    if asked is None or problem.nothing_to_pick:
        return []
    if floor is None:
        return [f"metrics.json does not say what number selection.min_similarity={asked} was"]
    recorded = finished.run.read_metrics()["min_similarity"]["rows"]
    return wrong_floors(finished, [RecordedFloor("metrics.json", problem.targets, floor.limit, recorded)])
