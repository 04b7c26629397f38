"""Where a floor under similarity lies that is given as a share of the pool, counted over shards.

The limit is an order statistic of all rows that may be picked. Values are never gathered: shards count how many are in
each part of an interval, which gets narrower, first by what float32 says of rows, then, of the few that remain open, on
the grid of 2^-32 itself, until a part is one step wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import numpy as np
from torch import Tensor

from ray_itl.core.linalg import COSINE_GRID
from ray_itl.core.pool import Place, Pool
from ray_itl.core.rules import float32_error
from ray_itl.core.shard import PoolShard
from ray_itl.core.similarity_floor import SimilarityFloor

_BINS = 4096
_BIN_STEPS = int(2 * COSINE_GRID) // _BINS


@dataclass(frozen=True)
class SimilarityCounts:
    """How many rows of a shard are where."""

    below: int
    """Rows below the first interval."""
    counts: np.ndarray
    """Rows in each, int64."""

    def placed(self, place: Place) -> SimilarityCounts:
        """Return the same: there are no positions in it."""
        del place
        return self


@dataclass(frozen=True)
class CountQuestion:
    """Ask how many rows are how like their nearest target. One pass for the first question about these targets."""

    directions: Tensor
    """M x D float64 of norm 1 (or 0)."""
    excluded: np.ndarray
    """Positions of rows that do not count."""
    low: int = 0
    """Where the first interval begins, in steps of 2^-32."""
    width: int = 0
    """Of each of 4,096 intervals, in steps; 0: of all there is, as float32 has it."""

    def placed(self, place: Place) -> CountQuestion:
        """Return the same with other positions."""
        return replace(self, excluded=place(self.excluded))

    def answer(self, shard: PoolShard) -> SimilarityCounts:
        """Count the rows of a shard."""
        similarities, free = shard.similarities(self.directions), shard.free(self.excluded)
        if not self.width:
            return SimilarityCounts(0, similarities.screened_counts(free, _BINS))
        return SimilarityCounts(*similarities.counts(free, self.low, self.width, _BINS))


@dataclass(frozen=True)
class SettledFloor:
    """A floor as a number, and what is above it."""

    floor: SimilarityFloor
    num_rows: int
    """Rows that may be picked but for the floor."""
    num_left: int
    """Those of them that are not below it."""


def settle_floor(pool: Pool, directions: Tensor, asked: float | Fraction, excluded: np.ndarray) -> SettledFloor:
    """Return the floor of a pool, and count what it leaves. One pass.

    Of a share p it is the largest similarity of a row, below which no more than p N of the N rows lie: that of the row
    of number floor(p N), from 0, ascending, and of the last row for p = 1. So 1 - p of the rows are left, and those
    that are as like their targets as the last of them.

    Args:
        pool: All rows.
        directions: Of the targets, M x D float64 of norm 1 (or 0).
        asked: The limit as a number, or as such a share, 0 to 1.
        excluded: Positions of rows that may not be picked; they do not count.
    """
    question = CountQuestion(directions, excluded)
    counts = _sum(pool.ask(question)).counts
    num_rows = int(counts.sum())
    limit = asked
    if isinstance(asked, Fraction):
        limit = _at_rank(pool, question, counts, min(int(asked * num_rows), num_rows - 1)) if num_rows else 0.0
    floor = SimilarityFloor(directions, float(limit))
    below = _sum(pool.ask(replace(question, low=floor.steps, width=1))).below
    return SettledFloor(floor, num_rows, num_rows - below)


def _at_rank(pool: Pool, question: CountQuestion, screened: np.ndarray, rank: int) -> float:
    """Return the similarity of the row of some rank, from 0, ascending, given what float32 says of all.

    No value moves by more than the bound on float32's rounding, so neither does the value of a rank.
    """
    off = ceil(float32_error(pool.dim) * COSINE_GRID)
    place = int(np.searchsorted(np.cumsum(screened), rank, side="right"))
    low = place * _BIN_STEPS - int(COSINE_GRID) - off
    steps = _BIN_STEPS + 2 * off + 1
    while True:
        width = -(-steps // _BINS)
        found = _sum(pool.ask(replace(question, low=low, width=width)))
        place = int(np.searchsorted(found.below + np.cumsum(found.counts), rank, side="right"))
        assert found.below <= rank < found.below + int(found.counts.sum()), "float32 is off by more than its bound"
        low, steps = low + place * width, width
        if width == 1:
            return low / COSINE_GRID


def _sum(parts: Sequence[SimilarityCounts]) -> SimilarityCounts:
    """Return what all shards count."""
    return SimilarityCounts(sum(part.below for part in parts), np.stack([part.counts for part in parts]).sum(axis=0))
