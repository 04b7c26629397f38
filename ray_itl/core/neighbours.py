"""The rows of one small set that are most like each row of another, by cosine."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ray_itl.core.features import UnitNorm
from ray_itl.errors import InputError

_CHUNK_COSINES = 1 << 24


class Neighbours(NamedTuple):
    """For each of n rows the k others most like it, the most like first; the lowest index among equals."""

    indices: Tensor
    """n x k int64; -1 where there are fewer than k."""
    cosines: Tensor
    """n x k float64 in [-1, 1]; nan where there are fewer than k."""


def nearest_of(rows: Tensor, others: Tensor, count: int, chunk_rows: int | None = None) -> Neighbours:
    """Return the `count` (at most m) others of the largest cosine to each row. A row of zeros has cosine 0 with all.

    Args:
        rows: n x D.
        others: m x D, m >= 1.
        count: How many, >= 1.
        chunk_rows: Rows compared at a time; None: as many as keep to 2^24 cosines.

    Raises:
        InputError: there are no others, or the widths differ.

    O(n m D).
    """
    if len(others) == 0 or rows.shape[1] != others.shape[1]:
        raise InputError(
            f"the nearest of {tuple(others.shape)} rows to {tuple(rows.shape)} rows is not defined: hand over at least "
            "one, of the same width"
        )
    units = UnitNorm()(others.to(torch.float64)).mT
    step = chunk_rows or max(1, _CHUNK_COSINES // len(others))
    parts = [
        _largest(UnitNorm()(part.to(torch.float64)) @ units, min(count, len(others)))
        for part in (rows.split(step) if len(rows) else [rows])
    ]
    return Neighbours(*(torch.cat(column) for column in zip(*parts, strict=True)))


def nearest_earlier(rows: Tensor, chunk_rows: int = 1024) -> Neighbours:
    """Return for each row the one before it of the largest cosine (n x 1); the first row has none. O(n^2 D)."""
    units = UnitNorm()(rows.to(torch.float64))
    found = Neighbours(torch.full((len(rows), 1), -1), torch.full((len(rows), 1), float("nan"), dtype=torch.float64))
    for start in range(0, len(rows), chunk_rows):
        part = units[start : start + chunk_rows]
        cosines = part @ units[: start + len(part)].mT
        later = torch.ones_like(cosines, dtype=torch.bool).triu(start)
        best = _largest(cosines.masked_fill(later, float("-inf")), 1)
        first = 1 if start == 0 else 0
        found.indices[start + first : start + len(part)] = best.indices[first:]
        found.cosines[start + first : start + len(part)] = best.cosines[first:]
    return found


def _largest(values: Tensor, count: int) -> Neighbours:
    """Return the largest of each row of values (r x m), the lowest index first among equals."""
    if count == 1:
        index = values.argmax(dim=1, keepdim=True)
    else:
        index = values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return Neighbours(index, values.gather(1, index).clamp(-1.0, 1.0))
