"""Hash order of ids, repeated ids within and across shards.

Finding repeated row ids, within a shard and across shards, without gathering all ids in one place.

Splitting ids by hash, so that equal ids of different shards meet without gathering all ids in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ray_itl.core.ranking import hash_order


class IdSpan(NamedTuple):
    """Smallest and largest id of a shard, and an id that occurs twice in it (None when there is none)."""

    first: int | str
    last: int | str
    repeated: int | str | None


def id_span(ids: np.ndarray) -> IdSpan:
    """Return the span of ids (n >= 1). O(n log n), one copy of the ids."""
    # NumPy's default sort ends the process on sorted runs of some thousand variable-width strings (seen in 2.4.6).
    ordered = np.sort(ids, kind="stable")
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    repeated = ordered[same[:1]].tolist()
    first, last = ordered[[0, -1]].tolist()
    return IdSpan(first, last, repeated[0] if repeated else None)


def spans_overlap(spans: Sequence[IdSpan]) -> bool:
    """Whether an id might be in two shards. Shards of a pool sorted by id never overlap."""
    order = np.argsort(np.array([span.first for span in spans]), kind="stable")
    firsts, lasts = (np.array([getattr(spans[i], end) for i in order]) for end in ("first", "last"))
    return bool((firsts[1:] <= lasts[:-1]).any())


def split_by_hash(ids: np.ndarray, num_parts: int) -> list[np.ndarray]:
    """Return ids in `num_parts` arrays; which one an id is in depends on the id alone. O(n log n), one copy."""
    part = (hash_order(ids, seed=0) * num_parts).astype(np.int64)
    ends = np.cumsum(np.bincount(part, minlength=num_parts))[:-1]
    return np.split(ids[np.argsort(part, kind="stable")], ends)
