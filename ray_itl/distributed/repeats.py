"""Splitting ids by hash, so that equal ids of different shards meet without gathering all ids in one place."""

from __future__ import annotations

import numpy as np

from ray_itl.core.ranking import hash_order


def split_by_hash(ids: np.ndarray, num_parts: int) -> list[np.ndarray]:
    """Return ids in `num_parts` arrays; which one an id is in depends on the id alone. O(n log n), one copy."""
    part = (hash_order(ids, seed=0) * num_parts).astype(np.int64)
    ends = np.cumsum(np.bincount(part, minlength=num_parts))[:-1]
    return np.split(ids[np.argsort(part, kind="stable")], ends)
