"""What the rest of the program knows of a pool, whatever it is stored in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import torch

from ray_itl.io.listing import PoolPaths
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.ids import IdKind

PathInput = str | os.PathLike[str]
PoolInput = PathInput | Sequence[PathInput] | PoolPaths | pa.Table | pads.Dataset | np.ndarray | torch.Tensor
"""Paths, folders, globs or URIs of Parquet files and tables; an Arrow table or dataset; a `rows x dim` array."""
BATCH_BYTES = 2 << 20
"""About what a batch of rows takes."""


class RowSource(Protocol):
    """Rows with ids in a fixed global order, positions 0 to `num_rows` - 1; they need not have embeddings.

    A source pickles.

    Raises:
        IndexError: in every method: a position is out of range.
        InputError: in every method: something cannot be read, a row is bad (names the first), or a column not there.
    """

    num_rows: int
    id_kind: IdKind
    """The kind of ids."""

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` covering `start <= position < stop` in order, in bounded memory.

        With `bad`, rows without a usable id are noted there once all is read, and have 0 or "" for one.
        """
        ...

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions` (int64, ascending, distinct), in bounded memory."""
        ...

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """See `PoolSource.take`."""
        ...

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """See `PoolSource.locate`."""
        ...


class PoolSource(Protocol):
    """Rows of a pool in a fixed global order: positions 0 to `num_rows` - 1.

    A source pickles, so a shard can open its own rows.

    Raises:
        IndexError: in every method: a position is out of range.
        InputError: in every method: something cannot be read, a row is bad (names the first), or a column not there.
    """

    num_rows: int
    dim: int
    """D, number of embedding dimensions."""
    dtype: np.dtype
    """Float type of embeddings."""
    id_kind: IdKind
    """The kind of ids."""

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` covering `start <= position < stop` in order, in bounded memory.

        ids: int64, uint64 or StringDType, one per row; embeddings: `rows x dim` of `dtype`, C-contiguous, finite, of
        about 2 MiB, possibly a read-only view that lives as long as the batch. With `bad`, rows that cannot be used are
        noted there once all is read, and are NaN.
        """
        ...

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions` (int64, ascending, distinct), as `batches` does."""
        ...

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions` (int64, repeats allowed), in that order.

        With no columns the result is `pa.table({})`.
        """
        ...

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        ...

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return for each position its file (relative name, "" in memory) and its row in that file."""
        ...
