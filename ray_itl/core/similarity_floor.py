"""How like the targets a row must be to be picked: the cosine to the nearest of them, and the floor under it.

Most rows of a pool are below a floor, so no list of them travels: each shard compares all its rows with the targets, in
one pass, and keeps what float32 says of each (4 bytes a row). What a bound on its rounding leaves open is computed in
float64, so that neither shards nor chunks nor devices decide which rows are above the floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.features import UnitNorm
from ray_itl.core.linalg import COSINE_GRID
from ray_itl.core.posterior import Targets
from ray_itl.core.rules import cosines, float32_error, unit_rows

_CHUNK_CELLS = 1 << 22
_EXACT_ROWS = 4096
_COUNTED_ROWS = 1 << 20
_SHORTEST, _LONGEST = 1e-30, 1e30
"""Of |x|^2, between which no product of a row and a direction comes near the ends of float32's range."""


def target_directions(targets: Targets) -> Tensor:
    """Return what rows are compared with: M x D float64 of norm 1.

    Targets of weight 0 count as left out, and those of zeros are like no row; where there are no others every cosine
    is 0.
    """
    units = unit_rows(targets.rows[targets.weights > 0])
    units = units[(units != 0).any(dim=1)]
    return units if len(units) else torch.zeros(1, targets.rows.shape[1], dtype=torch.float64)


def nearest_steps(rows: Tensor, directions: Tensor) -> Tensor:
    """Return the cosine of n rows (n x D) to the nearest of M directions, in steps of 2^-32: n int64. O(n D M)."""
    best = torch.empty(len(rows), dtype=torch.float64)
    step = max(1, _CHUNK_CELLS // len(directions))
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        best[part] = cosines(rows[part], directions).amax(dim=1)
    return (best * COSINE_GRID).to(torch.int64)


@dataclass(frozen=True)
class SimilarityFloor:
    """Rows whose cosine to the nearest target is below a limit may not be picked."""

    directions: Tensor
    """See `target_directions`."""
    limit: float

    @property
    def steps(self) -> int:
        """The least cosine that is not below the limit, in steps of 2^-32."""
        return math.ceil(self.limit * COSINE_GRID)


class NearestSimilarities:
    """For each of n rows of a shard its cosine to the nearest of some directions: one pass over them, O(n D M)."""

    def __init__(self, features: FeatureStore, norms: Tensor, directions: Tensor) -> None:
        """Compare n rows, of which |x|^2 is known (n float64), with M x D float64 directions of norm 1 (or 0)."""
        self.directions = directions.clone()  # what came in a message is not to be held by its rows
        self._features = features
        self._error = float32_error(features.dim)
        self._screened = torch.empty(features.num_rows, dtype=torch.float32, device=features.device)
        there = directions.to(features.device, torch.float32)
        for rows, chunk in features.chunks():
            self._screened[rows] = _screened(chunk, norms[rows], there)

    def at_least(self, steps: int) -> Tensor:
        """Return which rows reach a cosine, in steps of 2^-32: n bool."""
        limit = steps / COSINE_GRID
        found = self._screened >= limit - self._error
        doubtful = torch.nonzero(found & (self._screened < limit + self._error)).flatten()
        found[doubtful] = (self._exact(doubtful) >= steps).to(found.device)
        return found

    def screened_counts(self, among: Tensor, num_bins: int) -> np.ndarray:
        """Return how many of some rows (n bool) float32 puts into each of some equal parts of [-1, 1]: int64."""
        counts = torch.zeros(num_bins, dtype=torch.int64)
        for values, asked in zip(self._screened.split(_COUNTED_ROWS), among.split(_COUNTED_ROWS), strict=True):
            places = (values[asked].to(torch.float64) + 1.0) * (num_bins / 2)
            counts += torch.bincount(places.to(torch.int64).clamp_(0, num_bins - 1), minlength=num_bins).cpu()
        return counts.numpy()

    def counts(self, among: Tensor, low: int, width: int, num_bins: int) -> tuple[int, np.ndarray]:
        """Return how many of some rows (n bool) are below a cosine, and in each of some intervals from there on.

        Args:
            among: The rows.
            low: The cosine, in steps of 2^-32.
            width: Of an interval, in steps.
            num_bins: Number of intervals.
        """
        last = low + width * num_bins
        below = among & (self._screened < low / COSINE_GRID - self._error)
        near = among & ~below & (self._screened <= last / COSINE_GRID + self._error)
        exact = self._exact(torch.nonzero(near).flatten())
        inside = exact[(exact >= low) & (exact < last)]
        counts = torch.bincount((inside - low) // width, minlength=num_bins)
        return int(below.sum()) + int((exact < low).sum()), counts.numpy()

    def _exact(self, indices: Tensor) -> Tensor:
        """Return the cosines of k rows in steps of 2^-32, k int64 on the CPU."""
        parts = [nearest_steps(self._features.rows(part), self.directions) for part in indices.split(_EXACT_ROWS)]
        return torch.cat(parts)


def _screened(chunk: Tensor, norms: Tensor, directions: Tensor) -> Tensor:
    """Return the cosine of n rows (n x D, |x|^2 n) to the nearest of M directions (M x D float32), in float32: n.

    Rows are divided by their length after the product, which is as exact and spares a copy of all of them, unless one
    is so long or short that products leave float32's range.
    """
    lengths = norms.sqrt().to(torch.float32)
    usual = (norms > _SHORTEST) & (norms < _LONGEST)
    if chunk.dtype != torch.float64:  # in which the squares of what is not zero may be
        usual |= norms == 0
    if not bool(usual.all()):
        chunk, lengths = UnitNorm()(chunk.to(torch.float64)), torch.ones_like(lengths)
    chunk = chunk.to(torch.float32)
    best = torch.full_like(lengths, -torch.inf)
    step = max(1, _CHUNK_CELLS // max(1, len(chunk)))
    for first in range(0, len(directions), step):
        best = torch.maximum(best, (chunk @ directions[first : first + step].mT).amax(dim=1))
    return best / lengths.where(lengths > 0, 1.0)
