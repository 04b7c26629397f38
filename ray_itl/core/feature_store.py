"""Where features and copies of them are: what a shard asks of them (`FeatureStore`), and features in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

_CHUNK_BYTES = 12 * 2**20


class FeatureStore(Protocol):
    """The features of a shard's rows (n x D), read a chunk at a time or row by row; they never change."""

    @property
    def num_rows(self) -> int:
        """Number of rows n."""
        ...

    @property
    def dim(self) -> int:
        """D, number of features."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The storage type; the values as stored are the pool."""
        ...

    @property
    def device(self) -> torch.device:
        """Where chunks and rows are handed over."""
        ...

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield every row once, in order: a slice of `chunk_rows_for(D)` rows and their features.

        One call is one read of all features. A chunk must not be written to, and may be overwritten once the next one
        is asked for.
        """
        ...

    def rows(self, indices: Tensor) -> Tensor:
        """Return a copy of the rows at k indices (int64, any order), k x D."""
        ...


class RowSink(Protocol):
    """Where rows of one width are put, each once, to be read as a `FeatureStore`."""

    def fill(self, rows: slice, write: Callable[[Tensor], object]) -> None:
        """Let `write` fill some rows: a tensor of that many, of anything."""
        ...

    def finish(self) -> FeatureStore:
        """Return all rows."""
        ...


RoomForCopies = Callable[[int, torch.dtype], RowSink]
"""Makes room for a copy of every row: given the copies' width and type."""


def chunk_rows_for(dim: int) -> int:
    """Return how many rows fit the last-level cache with their products."""
    return max(512, _CHUNK_BYTES // (4 * dim))


def chunk_slices(num_rows: int, dim: int) -> Iterator[slice]:
    """Yield the slices by which any store hands over its rows: results never depend on where features are kept."""
    step = chunk_rows_for(dim)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


class MemoryFeatures:
    """Features that are one tensor on one device."""

    def __init__(self, tensor: Tensor) -> None:
        """Take ownership of a tensor n x D of any float type."""
        self.tensor = tensor

    @property
    def num_rows(self) -> int:
        """Number of rows n."""
        return self.tensor.shape[0]

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self.tensor.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's type."""
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        """The tensor's device."""
        return self.tensor.device

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield views of the tensor."""
        for rows in chunk_slices(self.num_rows, self.dim):
            yield rows, self.tensor[rows]

    def rows(self, indices: Tensor) -> Tensor:
        """Return a copy of the rows at some indices."""
        return self.tensor[indices]


class MemorySink:
    """A `RowSink` that is one tensor beside the features."""

    def __init__(self, num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        """Take the memory."""
        self._tensor = torch.empty(num_rows, width, dtype=dtype, device=device)

    def fill(self, rows: slice, write: Callable[[Tensor], object]) -> None:
        """See `RowSink`."""
        write(self._tensor[rows])

    def finish(self) -> MemoryFeatures:
        """See `RowSink`."""
        return MemoryFeatures(self._tensor)


def memory_beside(features: FeatureStore) -> RoomForCopies:
    """Return what makes room for copies in memory, where the features are computed on."""
    return lambda width, dtype: MemorySink(features.num_rows, width, dtype, features.device)
