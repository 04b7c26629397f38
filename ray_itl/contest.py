"""Rows that compete for a pick: which should have won by the total order of `core.decision`, so far as one can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contest:
    """R rows that compete by gain over price; all that tie with the best of them yield to the smallest id."""

    gains: np.ndarray
    """R float64."""
    prices: np.ndarray
    """R float64, > 0."""
    ids: np.ndarray
    is_open: np.ndarray
    """R bool: which may be picked."""
    tie_share: float
    """Rows tie whose gain is below that of the best, at their price, by this share of it, ..."""
    tie_rest: float
    """... and this."""
    rounding: float
    """By how much the difference of two gains may be off."""

    @property
    def values(self) -> np.ndarray:
        """What rows compete by, -inf for those that may not be picked: R."""
        return np.where(self.is_open, self.gains / self.prices, -np.inf)

    def better_than(self, pick: int) -> int | None:
        """Return the row that should have been picked instead; None where rounding may explain this pick."""
        if pick not in self.possible_winners():
            return int(self.values.argmax())
        half = self.rounding / 2
        surely_tied = self.is_open & (self.gains - half >= self._floor(self._best(half)))
        before = np.flatnonzero(surely_tied & (self.ids < self.ids[pick]))
        return int(before[np.argsort(self.ids[before], kind="stable")[0]]) if len(before) else None

    def possible_winners(self) -> np.ndarray:
        """Return the open rows that are the best or tie with it, if rounding is in their favour: ascending indices."""
        if not self.is_open.any():
            return np.empty(0, dtype=np.int64)
        half = self.rounding / 2
        return np.flatnonzero(self.is_open & (self.gains + half >= self._floor(self._best(-half))))

    def _best(self, error: float) -> float:
        """Return the largest value if every gain is larger by this much."""
        return float(np.where(self.is_open, (self.gains + error) / self.prices, -np.inf).max())

    def _floor(self, value: float) -> np.ndarray:
        """Return the gains from which rows tie with a value, each at its price: R."""
        needed = value * self.prices
        return needed - self.tie_share * np.abs(needed) - self.tie_rest
