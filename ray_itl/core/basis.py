"""Orthonormal bases of what has been seen, which grow row by row and are shared by all states that grew from one."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.core.linalg import compress_rows

_SPARE = 32
_IN_SPAN = 4.0


class Basis:
    """r orthonormal vectors of R^D; immutable: what adds vectors returns a new basis.

    Vectors live in a store with room to spare, which bases that grew from each other share: the first to add vectors at
    a place writes them there, any other copies. Looking some steps ahead and starting over costs a copy in all, not one
    a step.
    """

    def __init__(self, vectors: Tensor) -> None:
        """Take r orthonormal vectors, r x D float64."""
        self._store, self._size = _Store(vectors, len(vectors)), len(vectors)
        self.vectors = self._store.rows[: self._size]
        """r x D float64, not to be written to."""

    @classmethod
    def empty(cls, dim: int) -> Basis:
        """Return the basis of nothing in R^D."""
        return cls(torch.empty(0, dim, dtype=torch.float64))

    def __reduce__(self) -> tuple[type[Basis], tuple[Tensor]]:
        """Travel without the spare room."""
        return Basis, (self.vectors,)

    @property
    def dim(self) -> int:
        """D."""
        return self._store.rows.shape[1]

    @property
    def size(self) -> int:
        """r."""
        return self._size

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows' coordinates (.. x r) and what is left of them outside the span (.. x D). O(D r) a row."""
        coordinates = rows @ self.vectors.mT
        return coordinates, rows - coordinates @ self.vectors

    def split_twice(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `split` does, the second part orthogonal to the span up to its own rounding, not the rows'."""
        coordinates, outside = self.split(rows)
        missed, outside = self.split(outside)
        return coordinates + missed, outside

    def place(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return where a row (D) lies: its coordinates, and the vectors (none, or one) that the basis lacks for it.

        There are none where the row is within the span but for rounding. Else the last coordinate is that of the vector
        returned. O(D r).
        """
        coordinates, outside = self.split_twice(row)
        length = torch.linalg.vector_norm(outside)
        if not float(length) > self._rounding * float(torch.linalg.vector_norm(row)):
            return coordinates, outside.new_empty(0, self.dim)
        return torch.cat([coordinates, length[None]]), (outside / length)[None]

    def extended(self, vectors: Tensor) -> Basis:
        """Return the basis with k further vectors (k x D), orthonormal and orthogonal to those that it has."""
        if not len(vectors):
            return self
        end, grown = self._size + len(vectors), Basis.__new__(Basis)
        grown._store = self._store if self._store.is_free(self._size, end) else _Store(self.vectors, end + end // 2)
        grown._store.write(self._size, vectors)
        grown._size = end
        grown.vectors = grown._store.rows[:end]
        return grown

    def with_rows(self, rows: Tensor) -> Basis:
        """Take in many rows (m x D), of which those that others span but for rounding add no vector.

        O(m D (r + min(m, D))).
        """
        lengths = rows.norm(dim=1)
        if len(rows) > self.dim:  # compressed rows are known up to rounding of the largest
            lengths, rows = rows.norm().expand(self.dim), compress_rows(rows)
        outside = self.split_twice(rows)[1]
        outside = outside[lengths > 0] / lengths[lengths > 0, None]
        outside = outside[outside.norm(dim=1) > self._rounding]
        if not len(outside):
            return self
        vectors, lengths = _orthonormal(outside)
        new = lengths > self._rounding
        if not bool(new.all()):
            vectors = _orthonormal(outside[new])[0]
        if self._size:
            vectors = _orthonormal(self.split(vectors)[1])[0]
        return self.extended(vectors)

    @property
    def _rounding(self) -> float:
        """What is left outside the span of a row of length 1 within it, at most."""
        return max(16.0, _IN_SPAN * self.dim**0.5) * 2.0**-52


class _Store:
    """Rows of which the first `used` are taken for good."""

    def __init__(self, vectors: Tensor, capacity: int) -> None:
        self.rows, self.used = vectors, len(vectors)
        if capacity > len(vectors):
            self.rows = torch.empty(capacity + _SPARE, vectors.shape[1], dtype=vectors.dtype)
            self.rows[: self.used] = vectors

    def is_free(self, start: int, end: int) -> bool:
        """Whether no one has written from `start` on, and there is room until `end`."""
        return self.used == start and end <= len(self.rows)

    def write(self, start: int, vectors: Tensor) -> None:
        self.used = start + len(vectors)
        self.rows[start : self.used] = vectors


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthonormal vectors that span rows (k x D, k <= D), and of each row what those before it do not span."""
    q, r = torch.linalg.qr(rows.mT)
    return q.mT.contiguous(), r.diagonal().abs()
