"""Picks that nearly repeat an earlier one: how many, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ray_itl.core.rules import cosines, unit_rows
from ray_itl.curation.problem import Problem

_NEAR = 1 / 20
"""A row nearly repeats another if it is nearer to it than this part of the mean distance between rows of the pool."""
_MANY = 1 / 4
"""Share of the picks from which on it is warned of them."""
_COMPARED = 10_000
"""Picks that are compared with each other, the first: some seconds."""
_AT_ONCE = 1024


def repeats_of(picks: Tensor, sample: Tensor) -> dict[str, Any]:
    """Return what metrics.json says of picks that nearly repeat an earlier one. O(n^2 D) for the first 10,000.

    `distance` (1 - cosine) is a twentieth of the mean over pairs of the sampled rows, 0.05 where these have nothing in
    common; `picks` counts those of the first `compared` picks that are nearer than that to an earlier one.

    Args:
        picks: Features, n x D float64, in order.
        sample: Features of rows of the pool, k x D.
    """
    picks = picks[:_COMPARED]
    units = unit_rows(picks)
    distance = float(f"{_NEAR * _mean_distance(sample):.3g}")
    count = 0
    for first in range(0, len(units), _AT_ONCE):
        part = picks[first : first + _AT_ONCE]
        near = cosines(part, units[: first + len(part)]) > 1 - distance
        # Row k of the part is pick first + k: what is below the diagonal are the picks before it.
        count += int(near.tril(first - 1).any(dim=1).sum())
    return {"distance": distance, "picks": count, "compared": len(units)}


def _mean_distance(sample: Tensor) -> float:
    """Return the mean of 1 - cosine over pairs of k rows: with units u, 1 - (|sum u|^2 - sum |u|^2) / (k (k - 1))."""
    units = unit_rows(sample)
    if len(units) < 2:
        return 1.0
    together = units.sum(dim=0).square().sum() - units.square().sum()
    return max(0.0, 1.0 - float(together) / (len(units) * (len(units) - 1)))


def repeats_words(found: Mapping[str, Any]) -> str:
    """Say how many picks nearly repeat an earlier one."""
    first = "the first " if found["compared"] == _COMPARED else ""
    return (
        f"{found['picks']:,} of {first}{found['compared']:,} nearly repeat an earlier one (1 - cosine "
        f"below {found['distance']:g}, a twentieth of the mean over pairs of the pool)"
    )


def repeating(problem: Problem, found: Mapping[str, Any]) -> str | None:
    """Return a sentence where many picks nearly repeat an earlier one, and nothing says that they should or may not."""
    if problem.selection.min_distance is not None or problem.selection.replacement:
        return None
    if found["picks"] <= _MANY * found["compared"]:
        return None
    return (
        f"Of the picks {repeats_words(found)}: for training they are worth little, and may be learnt by heart. "
        f"selection.min_distance={found['distance']:g} leaves them out."
    )
