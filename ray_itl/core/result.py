"""What a greedy selection tells its caller: after every block, and at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState
from ray_itl.core.trajectory import Pick

Stop = Literal["n", "min_gain", "share", "no_rows"]
"""Why a selection ended: n rows were picked, the next was not worth its cost, enough was known of the targets, or no
further row may be picked."""


@dataclass
class GreedyStats:
    """Counts of one selection."""

    passes: int = 0
    """Reads of all the pool's features: the initial one, one per block, and any extra."""
    blocks: list[tuple[int, int]] = field(default_factory=list)
    """For every block: picks speculated, picks accepted."""
    challengers: int = 0
    """Rows that beat or tied with a speculated pick, as far as float64 tells, and were compared exactly."""
    contests: int = 0
    """Exact searches, needed where too many rows may be the next pick."""
    escalations: int = 0
    """Moves to a more precise screen."""
    precision: str = "float32"
    """What rows were screened in at the end."""
    doubtful: int = 0
    """Rows that screening did not exclude, over all passes: scored exactly by their shards."""


@dataclass(frozen=True)
class GreedyResult:
    """The picks in order, their features (n x D float64), the state after the last, and counts."""

    picks: list[Pick]
    features: Tensor
    state: AcquisitionState
    stats: GreedyStats
    close_calls: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Positions of the last challengers (at most 2,000, ascending): rows that came close to beating a pick."""
    next_gain: float | None = None
    """Where it stopped for `min_gain`: what the next pick would have been worth, per unit of its cost."""
    stop: Stop = "n"
    directions: Tensor | None = None
    """What `posterior.directions` returns of the picks, D x n, where the search has computed and kept them."""

    @property
    def positions(self) -> np.ndarray:
        """Where the picks are in the pool, in order, n int64."""
        return np.array([pick.position for pick in self.picks], dtype=np.int64)


@dataclass(frozen=True)
class Progress:
    """Told to the caller after every accepted block, before the next one starts."""

    new: Sequence[Pick]
    num_picked: int
    num_asked: int
    stats: GreedyStats
