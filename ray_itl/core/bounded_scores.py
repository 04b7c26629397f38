"""Scores of rows of which some are exact, and the others known to within a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores


@dataclass(frozen=True)
class BoundedScores:
    """Scores of k rows: exact, but for rounding in float64, or off by a share of |x|^2 at most."""

    values: Scores
    """K times k float64."""
    exact: Tensor
    """Which rows' are exact, k bool."""
    errors: tuple[float, ...]
    """How far others may be off, relative to |x|^2: K, all 0 where every row's are exact."""

    @classmethod
    def exactly(cls, values: Scores) -> BoundedScores:
        """Return scores that are exact."""
        return cls(values, torch.ones(len(values[0]), dtype=torch.bool), (0.0,) * len(values))

    @classmethod
    def within(cls, values: Scores, errors: Sequence[float]) -> BoundedScores:
        """Return scores that are off by these shares of |x|^2 at most."""
        return cls(values, torch.zeros(len(values[0]), dtype=torch.bool), tuple(errors))

    def at(self, places: Tensor) -> Scores:
        """Return those of some rows."""
        return tuple(score[places] for score in self.values)

    def kept(self, places: Tensor) -> BoundedScores:
        """Return those of some rows, in that order, and how far they may be off."""
        return _bounded(self.at(places), self.exact[places], self.errors)

    def joined(self, others: BoundedScores) -> BoundedScores:
        """Return these, and those of others behind them."""
        values = tuple(torch.cat(pair) for pair in zip(self.values, others.values, strict=True))
        errors = tuple(max(pair) for pair in zip(self.errors, others.errors, strict=True))
        return _bounded(values, torch.cat([self.exact, others.exact]), errors)

    def with_exact(self, places: Tensor, values: Scores) -> BoundedScores:
        """Return the same but for some rows, whose exact scores are these."""
        if not len(places):
            return self
        found = tuple(old.index_copy(0, places, new) for old, new in zip(self.values, values, strict=True))
        return _bounded(found, self.exact.index_fill(0, places, True), self.errors)


def _bounded(values: Scores, exact: Tensor, errors: tuple[float, ...]) -> BoundedScores:
    return BoundedScores(values, exact, (0.0,) * len(errors) if bool(exact.all()) else errors)
