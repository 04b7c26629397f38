"""What decides, besides its gain, whether a row may be picked: its cost, its group, its similarity to other rows.

One description serves the driver and the shards, so that both say the same of a row. Each row has a cost and belongs to
a group (a cell of the quotas' values). Before each pick the driver knows how much a row of each group may cost at most
(what is left of the budget; minus infinity for a group that is full): a `Gate`. A row may be picked if its cost is
within. A `SimilarityGuard` excludes rows too similar to some others for good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.features import UnitNorm
from ray_itl.core.linalg import on_grid

_CHUNK_CELLS = 1 << 22
_ROUNDING = 2.0**-24


@dataclass(frozen=True)
class SimilarityGuard:
    """Excludes rows whose cosine to any of some rows exceeds a limit."""

    directions: Tensor
    """k x D float64 of norm 1 (or 0)."""
    limit: float

    @classmethod
    def around(cls, rows: Tensor, limit: float) -> SimilarityGuard:
        """Return the guard around rows (k x D of any float type)."""
        return cls(unit_rows(rows), limit)

    def excludes(self, rows: Tensor) -> Tensor:
        """Return which of n rows (n x D) it excludes: n bool. O(n k D), memory in bounded chunks."""
        excluded = torch.zeros(len(rows), dtype=torch.bool)
        step = max(1, _CHUNK_CELLS // max(1, len(self.directions)))
        for first in range(0, len(rows) if len(self.directions) else 0, step):
            part = slice(first, first + step)
            excluded[part] = (cosines(rows[part], self.directions) > self.limit).any(dim=1)
        return excluded


@dataclass(frozen=True)
class Rules:
    """What holds for a whole run; travels to every shard."""

    per_cost: bool = False
    """Whether rows compete by gain per cost rather than by gain."""
    max_similarity: float | None = None
    """Rows whose cosine to an earlier pick is larger may not be picked. Does not go with replacement."""
    guards: tuple[SimilarityGuard, ...] = ()
    """Other rows to keep away from, from the start."""

    @property
    def excludes_similar_picks(self) -> bool:
        """Whether a pick excludes rows like it."""
        return self.max_similarity is not None

    @property
    def uses_features(self) -> bool:
        """Whether features decide what may be picked."""
        return self.excludes_similar_picks or bool(self.guards)

    def around_picks(self, rows: Tensor) -> tuple[SimilarityGuard, ...]:
        """Return the guard that some picks (k x D) make, if they do."""
        if self.max_similarity is None or not len(rows):
            return ()
        return (SimilarityGuard.around(rows, self.max_similarity),)

    def like(self, units: Tensor, unit: Tensor) -> Tensor:
        """Return which of n rows (n x D of norm 1) a pick (D, of norm 1) excludes: n bool."""
        return on_grid(units @ unit) > (math.inf if self.max_similarity is None else self.max_similarity)

    def prices(self, costs: Tensor) -> Tensor:
        """Return by what gains are divided before rows are compared."""
        return costs if self.per_cost else torch.ones_like(costs)

    def excluded_after(self, rows: Tensor, picks: Tensor) -> Tensor:
        """Return whether each of n rows is excluded before each of B picks, and after the last, by the picks before it.

        Args:
            rows: n x D.
            picks: B x D.

        Returns:
            n x (B + 1) bool. O(n B D).
        """
        excluded = torch.zeros(len(rows), len(picks) + 1, dtype=torch.bool)
        if self.max_similarity is not None and len(rows) and len(picks):
            close = cosines(rows, unit_rows(picks)) > self.max_similarity
            excluded[:, 1:] = close.cumsum(dim=1) > 0
        return excluded


@dataclass(frozen=True)
class Gate:
    """What a row may cost at each of S moments, by its group."""

    max_costs: Tensor
    """S x G float64: -inf for a group that may not be picked from, inf where nothing is limited."""

    def admits(self, costs: Tensor, groups: Tensor) -> Tensor:
        """Return which of n rows may be picked at each moment: n x S bool."""
        return costs[:, None] <= self.max_costs.mT.to(costs.device)[groups]

    @classmethod
    def of(cls, max_costs: Sequence[np.ndarray]) -> Gate:
        """Return the gate of S moments from what rows of the G groups may cost at each."""
        return cls(torch.from_numpy(np.stack(max_costs)))

    def last(self) -> Gate:
        """Return the gate of the last moment alone."""
        return Gate(self.max_costs[-1:])


OPEN = Gate(torch.full((1, 1), float("inf"), dtype=torch.float64))
"""Lets every row through, where there is but one group."""


def unit_rows(rows: Tensor) -> Tensor:
    """Return rows (n x D) at norm 1 in float64 on the CPU, zero rows as they are."""
    return UnitNorm()(rows.to("cpu", torch.float64))


def cosines(rows: Tensor, directions: Tensor) -> Tensor:
    """Return the cosines of n rows to k directions of norm 1, n x k (see `on_grid`)."""
    return on_grid(unit_rows(rows) @ directions.mT)


def float32_error(dim: int) -> float:
    """Return by how much a cosine of rows of D numbers may be off where it is computed in float32.

    Both factors have norm 1 but for their own rounding, so that a product of D terms is off by at most (D + 3) 2^-24,
    to first order; twice that is allowed. The grid of cosines is finer than either.
    """
    return 2 * (dim + 3) * _ROUNDING
