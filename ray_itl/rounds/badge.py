"""BADGE: k-means++ seeding on gradient embeddings (Ash et al., ICLR 2020, algorithm 1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.linalg import squared_norms
from ray_itl.core.ranking import hash_order
from ray_itl.core.store import FeatureStore


def kmeans_plus_plus(features: FeatureStore, ids: np.ndarray, n: int, seed: int) -> list[int]:
    """Draw n rows one after another, each with probability proportional to its squared distance to those drawn.

    The first is the row of largest norm, as in the authors' code. A draw is the race argmin_i -log(u_i) / d_i^2 with
    u_i a hash of (seed, step, id), so it depends on the rows' ids and not on their order. Where every row left is a
    copy of one drawn, the smallest id comes next.

    Args:
        features: N x D, in memory.
        ids: N distinct row ids.
        n: Number of rows, 1 <= n <= N.
        seed: Fixes the draws.

    Returns:
        Indices of the rows in the order drawn. O(n N D).
    """
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(ids, kind="stable")] = np.arange(len(ids))
    drawn = [_first(-_by_chunk(features, torch.zeros(1)), np.zeros(len(ids), dtype=bool), rank)]
    distances = np.full(len(ids), np.inf)
    for step in range(1, n):
        distances = np.minimum(
            distances, _by_chunk(features, features.rows(torch.tensor(drawn[-1:])).to(torch.float64))
        )
        out = np.zeros(len(ids), dtype=bool)
        out[drawn] = True
        with np.errstate(divide="ignore"):
            # hash_order lies in [0, 1): 1 - u never is 0.
            times = -np.log1p(-hash_order(ids, _stream(seed, step))) / np.where(out, 0.0, distances)
        drawn.append(_first(np.where(distances > 0, times, np.inf), out, rank))
    return drawn


def _by_chunk(features: FeatureStore, centre: Tensor) -> np.ndarray:
    """Return |x - centre|^2 of every row in float64, a chunk at a time."""
    parts = [squared_norms(rows.to(torch.float64) - centre) for _, rows in features.chunks()]
    return torch.cat(parts).numpy()


def _first(times: np.ndarray, out: np.ndarray, rank: np.ndarray) -> int:
    """Return the row of least time that is not out, the smallest id among equals."""
    tied = np.flatnonzero(~out & (times == times[~out].min()))
    return int(tied[rank[tied].argmin()])


def _stream(seed: int, step: int) -> int:
    """Return a seed of its own for every step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
