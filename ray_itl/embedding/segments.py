"""Segments: files of embeddings with the keys of what was embedded, and where rows of some keys are in them.

A segment is a safetensors file of `keys` (n x 2 uint64), `rows` (n x D float32) and `sums` (n uint64, of each row's
32-bit words).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save

LONGEST_HEADER = 1 << 16
"""Of a segment's file: that many bytes, at most, say what is in it."""
_ROW_OVERHEAD = 24


def kept_bytes(num_rows: int, dim: int) -> int:
    """Return how much room embeddings of D numbers take, each with its key and sum."""
    return num_rows * (4 * dim + _ROW_OVERHEAD)


class Places:
    """Where rows of some keys are kept, as far as they are; equal keys are one row."""

    def __init__(self, keys: np.ndarray) -> None:
        """Take n x 2 keys; nothing is known to be kept yet."""
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        ordered = keys[order]
        is_first = np.ones(len(keys), dtype=bool)
        is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        self.distinct = ordered[is_first]
        """The keys, each once, ascending."""
        self.number = np.empty(len(keys), dtype=np.int64)
        """For each row the place of its key among them."""
        self.number[order] = np.cumsum(is_first) - 1
        self.segments = np.full(len(self.distinct), -1, dtype=np.int32)
        """For each of them the segment, -1 while there is none, and the row in it."""
        self.rows = np.zeros(len(self.distinct), dtype=np.int32)

    def add(self, segment: int, keys: np.ndarray) -> None:
        """Take in the keys of a segment, in its order; those known already stay where they are."""
        if not len(self.distinct) or not len(keys):
            return
        at = np.searchsorted(self.distinct[:, 0], keys[:, 0])
        at[at == len(self.distinct)] = 0
        hit = (self.distinct[at] == keys).all(axis=1) & (self.segments[at] < 0)
        self.segments[at[hit]], self.rows[at[hit]] = segment, np.flatnonzero(hit)


class Layout(NamedTuple):
    """Where in a segment's file its parts begin."""

    num_rows: int
    keys: int
    sums: int
    rows: int


@dataclass(frozen=True)
class Segment:
    """Rows in a file."""

    name: str
    layout: Layout


class PendingSegment:
    """Rows that are not written yet."""

    def __init__(self, capacity: int, dim: int) -> None:
        self.began = time.monotonic()
        self.num_rows = 0
        self._keys = np.empty((capacity, 2), dtype=np.uint64)
        self._rows = np.empty((capacity, dim), dtype=np.float32)  # memory is taken as it fills

    @property
    def keys(self) -> np.ndarray:
        """Their keys."""
        return self._keys[: self.num_rows]

    @property
    def rows(self) -> np.ndarray:
        """Their embeddings."""
        return self._rows[: self.num_rows]

    def has_room(self, count: int) -> bool:
        """Whether so many rows fit."""
        return self.num_rows + count <= len(self._keys)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Take further rows."""
        there = slice(self.num_rows, self.num_rows + len(keys))
        self._keys[there], self._rows[there] = keys, rows
        self.num_rows = there.stop

    def packed(self) -> bytes:
        """Return the segment's file."""
        return save({"keys": self.keys, "rows": self.rows, "sums": row_sums(self.rows)})


def row_sums(rows: np.ndarray) -> np.ndarray:
    """Return for each row the sum of its 32-bit words, by which it is seen whether one has changed."""
    return np.ascontiguousarray(rows).view(np.uint32).sum(axis=1, dtype=np.uint64)


def layout_of(head: bytes, size: int, dim: int) -> Layout:
    """Return where the parts of a segment are, from the beginning of its file.

    Raises:
        ValueError, KeyError, TypeError: it is no segment of D numbers a row, or not whole.
    """
    length = int.from_bytes(head[:8], "little")
    if not 0 < length <= LONGEST_HEADER - 8:
        raise ValueError("no header")
    header = json.loads(head[8 : 8 + length])
    num_rows = header["keys"]["shape"][0]
    shapes = {"keys": [num_rows, 2], "rows": [num_rows, dim], "sums": [num_rows]}
    ends = max(header[name]["data_offsets"][1] for name in shapes)
    if any(header[name]["shape"] != shape for name, shape in shapes.items()) or 8 + length + ends != size:
        raise ValueError("not whole")
    keys, sums, rows = (8 + length + header[name]["data_offsets"][0] for name in ("keys", "sums", "rows"))
    return Layout(num_rows, keys, sums, rows)
