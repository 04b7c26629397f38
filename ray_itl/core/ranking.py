"""One-shot rankings of the pool, for the baselines: nearest, cosine and random. No pick depends on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.linalg import on_grid
from ray_itl.core.messages import RowBatch, merge_batches


@dataclass(frozen=True)
class RankQuery:
    """Ask for the `count` best rows for each of Q directions (or by a seeded hash of the id).

    kind "cosine": score = x.d / |x| for each direction d, rounded to a grid of 2^-32 so that equal rows tie; zero
    rows score 0. kind "random": one list, ordered by a hash of (seed, id): independent of row order and shards.
    """

    kind: Literal["cosine", "random"]
    directions: Tensor
    """Q x D float64, of norm at most 1; one row (ignored) for random."""
    count: int
    seed: int = 0


@dataclass(frozen=True)
class RankedRows:
    """For each direction a list of rows, best first: score descending, id ascending."""

    lists: list[np.ndarray]
    """Q arrays of indices into `rows`."""
    scores: list[np.ndarray]
    """Q arrays of scores, aligned with the lists."""
    rows: RowBatch
    """The distinct rows of all lists, by position."""


def rank_features(
    features: FeatureStore, ids: np.ndarray, query: RankQuery, left_out: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each direction, (indices, scores) of this shard's best rows. One pass, O(n D Q), float64 scores.

    Args:
        features: n x D.
        ids: n.
        query: What to rank by.
        left_out: Which rows are no part of the ranking, n bool; None: all are.
    """
    if query.kind == "random":
        scores = -hash_order(ids, query.seed)
        there = np.arange(len(ids)) if left_out is None else np.flatnonzero(~left_out)
        return [top_rows(there, scores[there], ids, query.count)]
    best = [(np.empty(0, dtype=np.int64), np.empty(0)) for _ in query.directions]
    for rows, chunk in features.chunks():
        vectors = chunk.to("cpu", torch.float64)
        norms = vectors.square().sum(dim=1).sqrt()
        cosines = (vectors @ query.directions.mT) / norms.where(norms > 0, 1.0)[:, None]
        scores = on_grid(cosines)
        if left_out is not None:
            scores[torch.from_numpy(left_out[rows])] = -torch.inf
        for q, (indices, kept) in enumerate(best):
            worst = kept[-1] if len(kept) == query.count else -np.inf
            column = scores[:, q].numpy()
            new = np.flatnonzero((column >= worst) & (column > -np.inf))
            best[q] = top_rows(
                np.concatenate([indices, new + rows.start]), np.concatenate([kept, column[new]]), ids, query.count
            )
    return best


def top_rows(indices: np.ndarray, scores: np.ndarray, ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `count` of k rows by (score descending, id ascending).

    Args:
        indices: k int64.
        scores: k.
        ids: Of all rows, by index.
        count: How many to keep.

    Returns:
        (indices, scores) of at most `count` rows, in order. O(k + count log count) but for ties.
    """
    if len(indices) > count:
        floor = np.partition(scores, len(scores) - count)[len(scores) - count]
        keep = scores >= floor
        indices, scores = indices[keep], scores[keep]
    by_id = np.argsort(ids[indices], kind="stable")
    order = by_id[np.argsort(-scores[by_id], kind="stable")][:count]
    return indices[order], scores[order]


def hash_order(ids: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each id, uniform and fixed by (seed, id) alone; 53 bits."""
    if ids.dtype.kind in "iu":
        mixed = _mix(ids.view(np.uint64) ^ _mix(np.array([seed], dtype=np.int64).view(np.uint64)))
    else:
        key = str(seed).encode()
        digests = b"".join(blake2b(str(i).encode(), digest_size=8, key=key).digest() for i in ids)
        mixed = np.frombuffer(digests, dtype="<u8")
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al. 2014), a bijection of 64-bit integers."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def merge_ranked(parts: Sequence[RankedRows], query: RankQuery) -> RankedRows:
    """Merge the shards' lists into one list for each direction, in the same order."""
    rows = merge_batches([p.rows for p in parts])
    offsets = np.cumsum([0] + [len(p.rows) for p in parts])
    lists, scores = [], []
    for q in range(len(parts[0].lists)):
        indices = np.concatenate([p.lists[q] + o for p, o in zip(parts, offsets, strict=False)])
        merged = np.concatenate([p.scores[q] for p in parts])
        indices, merged = top_rows(indices, merged, rows.ids, query.count)
        lists.append(indices)
        scores.append(merged)
    return RankedRows(lists, scores, rows)


def best_of_any(ranked: RankedRows, n: int, excluded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the rows of the largest score in any list.

    The n best rows by their largest scores are right if every list has its first n rows that are not excluded: before
    a row in the list of its largest score there are only rows that come before it in all.

    Args:
        ranked: Rows and a list of them for each direction.
        n: Number of picks.
        excluded: Which of ranked.rows may not be picked (bool).

    Returns:
        (indices into ranked.rows, scores) of n picks in order, or None when the lists have too few rows.
    """
    best = np.full(len(ranked.rows), -np.inf)
    for rows, scores in zip(ranked.lists, ranked.scores, strict=True):
        best[rows] = np.maximum(best[rows], scores)
    if excluded is not None:
        best[excluded] = -np.inf
    free = np.flatnonzero(best > -np.inf)
    return None if len(free) < n else top_rows(free, best[free], ranked.rows.ids, n)


def round_robin(ranked: RankedRows, n: int, excluded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Deal rows out: each direction in turn takes its best row not yet picked (RDS+).

    Args:
        ranked: Rows and a list of them for each direction.
        n: Number of picks.
        excluded: Which of ranked.rows may not be picked (bool).

    Returns:
        (indices into ranked.rows, scores) of n picks in order, or None when the lists are too short to tell.
    """
    available = np.ones(len(ranked.rows), dtype=bool) if excluded is None else ~excluded
    cursor = [0] * len(ranked.lists)
    picks: list[int] = []
    scores: list[float] = []
    while len(picks) < n:
        for q, rows in enumerate(ranked.lists):
            while cursor[q] < len(rows) and not available[rows[cursor[q]]]:
                cursor[q] += 1
            if cursor[q] == len(rows):
                return None
            available[rows[cursor[q]]] = False
            picks.append(int(rows[cursor[q]]))
            scores.append(float(ranked.scores[q][cursor[q]]))
            if len(picks) == n:
                break
    return np.array(picks), np.array(scores)
