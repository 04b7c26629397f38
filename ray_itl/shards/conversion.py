"""Embeddings become features as stored, with their norms: a few rows at a time, so that all stays in the cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.features import FeatureMap, Identity

_SERIAL_NUMBERS = (1 << 15) - 1
"""With fewer than 32,768 numbers torch computes in the calling thread, so that threads that load rows do not wait for
each other's helpers; and as many in float64 fit the cache."""


def map_rows(feature_map: FeatureMap, rows: np.ndarray) -> Tensor:
    """Return the features (float64) of embedding rows (n x D numpy of any float type)."""
    return feature_map(torch.from_numpy(rows.astype(np.float64)))


def as_stored(feature_map: FeatureMap, rows: np.ndarray, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return features rounded to the storage dtype, and their squared norms (n float64).

    Where embeddings are features and have that type, the features share the memory of the rows, and must not be written
    to. Whatever the number of rows, each gets what `map_rows` and `squared_norms` give it among them.

    Args:
        feature_map: Applied to every row in float64.
        rows: n x D, C-contiguous, of any float type.
        dtype: Storage dtype.
    """
    embeddings = shared(rows)
    norms = torch.empty(len(rows), dtype=torch.float64)
    if isinstance(feature_map, Identity) and embeddings.dtype == dtype:
        features = embeddings
    elif feature_map.is_rowwise:
        features = torch.empty(len(rows), feature_map.dim(rows.shape[1]), dtype=dtype)
        step = serial_rows(rows.shape[1], len(rows))
        for part, out in zip(embeddings.split(step), features.split(step), strict=True):
            out.copy_(feature_map(part.to(torch.float64)))
    else:
        features = map_rows(feature_map, rows).to(dtype)
    fill_norms(features, norms, serial_rows(features.shape[1], len(features)))
    return features, norms


def fill_norms(features: Tensor, norms: Tensor, step: int) -> None:
    """Write |x|^2 of n rows, as `squared_norms` gives it, to n float64 on the CPU, `step` rows at a time."""
    exact = torch.empty(min(step, len(features)), features.shape[1], dtype=torch.float64)
    for part, out in zip(features.split(step), norms.split(step), strict=True):
        some = exact[: len(part)].copy_(part)
        torch.sum(torch.mul(some, some, out=some), dim=1, out=out)


def serial_rows(dim: int, num_rows: int) -> int:
    """Return how many of n rows of D numbers to look at together in one thread."""
    # A single row of so many numbers would be summed by several threads, in another order than among others.
    return _SERIAL_NUMBERS // dim if dim <= _SERIAL_NUMBERS else max(1, num_rows)


def shared(rows: np.ndarray) -> Tensor:
    """Return a C-contiguous matrix as a tensor of the same memory; not to be written to, as it may be read-only."""
    # Not torch.from_numpy, which warns of memory that is read-only.
    try:
        return torch.from_dlpack(rows)
    except (BufferError, TypeError):  # NumPy before 2.1 hands over no memory that is read-only
        return torch.from_numpy(rows.copy())
