"""Rows of the pool that are nearly equal to some others, such as those that a model is to be tested on.

All rows are compared with all others, in one pass: in float32 first, and the few that a bound on its rounding does not
rule out in float64, so that neither shards nor chunks nor devices decide which rows are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.features import UnitNorm
from ray_itl.core.rules import cosines, float32_error

_CHUNK_CELLS = 1 << 22


@dataclass(frozen=True)
class NearQuery:
    """Ask for the rows whose cosine to any of K others is at least a limit."""

    directions: Tensor
    """K x D float64 of norm 1 (or 0, which no row is near)."""
    min_similarity: float
    """Above 0; cosines are rounded to a grid of 2^-32 first, so that 1 stands for rows that are equal but for scale."""


@dataclass(frozen=True)
class NearRows:
    """Such rows, ascending, each with the other row that it is nearest to."""

    positions: np.ndarray
    """k int64."""
    nearest: np.ndarray
    """Indices into the directions, k int64: the first of those that are equally near."""
    similarities: np.ndarray
    """Cosines, k float64."""

    def at(self, places: np.ndarray) -> NearRows:
        """Return those at some places, in that order."""
        return NearRows(self.positions[places], self.nearest[places], self.similarities[places])


def find_near(features: FeatureStore, first_position: int, query: NearQuery) -> NearRows:
    """Return the near rows of a shard that begins at a position. One pass, O(n D K), memory in bounded chunks."""
    found = [near_among(torch.empty(0, features.dim, dtype=torch.float64), query)]
    directions = query.directions.to(features.device, torch.float32)
    for rows, chunk in features.chunks():
        doubtful = torch.nonzero(_may_be_near(chunk, directions, query.min_similarity)).flatten()
        if len(doubtful):
            near = near_among(chunk[doubtful], query)
            indices = doubtful.cpu().numpy()[near.positions]
            found.append(NearRows(indices + rows.start + first_position, near.nearest, near.similarities))
    return merge_near(found)


def near_among(rows: Tensor, query: NearQuery) -> NearRows:
    """Return which of n rows (n x D) are near, by their numbers. O(n D K) in float64."""
    best, nearest = torch.full((len(rows),), -torch.inf, dtype=torch.float64), torch.zeros(len(rows), dtype=torch.int64)
    step = max(1, _CHUNK_CELLS // max(1, len(rows)))
    for first in range(0, len(query.directions) if len(rows) else 0, step):
        similarities, indices = cosines(rows, query.directions[first : first + step]).max(dim=1)
        nearer = similarities > best
        best[nearer], nearest[nearer] = similarities[nearer], indices[nearer] + first
    near = torch.nonzero(best >= query.min_similarity).flatten()
    return NearRows(near.numpy(), nearest[near].numpy(), best[near].numpy())


def merge_near(parts: Sequence[NearRows]) -> NearRows:
    """Join what shards found, in their order."""
    return NearRows(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.nearest for part in parts]),
        np.concatenate([part.similarities for part in parts]),
    )


def _may_be_near(chunk: Tensor, directions: Tensor, limit: float) -> Tensor:
    """Return which of n rows (n x D) float32 does not rule out, given the directions in it (K x D): n bool."""
    units = UnitNorm()(chunk.to(torch.float64)).to(torch.float32)
    floor = limit - float32_error(chunk.shape[1])
    may = torch.zeros(len(units), dtype=torch.bool, device=units.device)
    step = max(1, _CHUNK_CELLS // max(1, len(units)))
    for first in range(0, len(directions), step):
        may |= (units @ directions[first : first + step].mT).amax(dim=1) >= floor
    return may
