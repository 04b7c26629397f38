"""Which rows come second at each pick: the driver's question, and the shards' answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ray_itl.core.messages import RowBatch, Start, merge_batches
from ray_itl.core.rules import Gate


@dataclass(frozen=True)
class RivalQuery:
    """Ask for the best row but the pick at each of n steps of a selection that is over."""

    start: Start
    """The scores before the first pick, the precision of the screen, and the rules of the run."""
    columns: Tensor
    """What each pick subtracts, D x num_tracks x n float64."""
    picks: np.ndarray
    """Positions of the picks, n int64."""
    features: Tensor
    """Of the picks, n x D float64."""
    gate: Gate
    """Which rows could be picked at each step, by what they cost: n moments."""
    excluded: np.ndarray
    """Positions of rows that could not be picked."""
    replacement: bool
    """Whether a row could be picked again: then only the pick itself is left out of a step, not those before it."""


@dataclass(frozen=True)
class Rivals:
    """Rows that may be the runner-up of some step: the k-th pair says that row `places[k]` may be that of `steps[k]`.

    All could have been picked at that step. The runner-up, if there is one, is among its pairs; where more than 64 rows
    of a shard are closer to the best than rounding can tell, the best of them and the 64 of the smallest ids stand for
    all.
    """

    steps: np.ndarray
    places: np.ndarray
    """Indices into `rows`."""
    rows: RowBatch
    """Distinct rows, by position; without scores."""


def merge_rivals(parts: Sequence[Rivals]) -> Rivals:
    """Join what the shards found."""
    offsets = np.cumsum([0] + [len(part.rows) for part in parts])
    places = [part.places + offset for part, offset in zip(parts, offsets, strict=False)]
    rows = merge_batches([part.rows for part in parts])
    return Rivals(np.concatenate([part.steps for part in parts]), np.concatenate(places), rows)
