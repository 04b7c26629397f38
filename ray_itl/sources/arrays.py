"""Rows of a numpy or torch array as a source."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows, Notes, rows_or_nan
from ray_itl.sources.base import BATCH_BYTES
from ray_itl.sources.ids import IdKind, check_id_type, common_kind, fits_int64, ids_from_arrow
from ray_itl.sources.manifest import check_range
from ray_itl.sources.schema import (
    check_finite,
    check_positions,
    which_row,
)

_FLOATS = (np.float16, np.float32, np.float64)


WITH_COLUMNS = "hand over a table, a frame, or files"
"""What has columns, for messages."""


class ArraySource:
    """Rows of a `rows x dim` (or `rows x 1 x dim`) float array or tensor (see `PoolSource`); pickles with all its data.

    The array is shared, not copied, if it is C-contiguous, aligned and on the CPU; bfloat16 becomes float32.
    `ids` are distinct integers, strings, UUIDs or bytes, one per row; without them a row's id is its position.
    """

    def __init__(
        self,
        embeddings: np.ndarray | torch.Tensor,
        ids: np.ndarray | Sequence[Any] | None = None,
    ):
        """Take a float matrix and, if any, the ids of its rows.

        Raises:
            InputError: it is empty or no float matrix, or `ids` are not one for each row.
        """
        self._rows = _float_matrix(embeddings)
        self._is_mapped = _is_mapped(self._rows)
        self.num_rows, self.dim = self._rows.shape
        self.dtype: np.dtype = self._rows.dtype
        self._given_ids = None if ids is None else _id_array(ids, self.num_rows)
        self.id_kind: IdKind = "int"
        if self._given_ids is not None:
            kinds: dict[str, IdKind] = {"i": "int", "u": "uint"}
            self.id_kind = kinds.get(self._given_ids.dtype.kind, "string")

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` views for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        step = max(1, BATCH_BYTES // (self.dim * self.dtype.itemsize))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            yield self._checked(np.arange(first, last), self._rows[first:last], bad)

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        positions = check_positions(positions, self.num_rows)
        step = max(1, BATCH_BYTES // (self.dim * self.dtype.itemsize))
        for first in range(0, len(positions), step):
            some = positions[first : first + step]
            yield self._checked(some, self._rows[some], bad)

    def view(self, start: int, stop: int) -> np.ndarray | None:
        """Return rows `start <= position < stop` as they stand, not checked; None where that is in a file."""
        check_range(start, stop, self.num_rows)
        return None if self._is_mapped else self._rows[start:stop]

    def ids(self, start: int, stop: int) -> np.ndarray:
        """Return the ids of rows `start <= position < stop`."""
        return np.arange(start, stop) if self._given_ids is None else self._given_ids[start:stop]

    def _checked(self, positions: np.ndarray, rows: np.ndarray, bad: BadRows | None) -> tuple[np.ndarray, np.ndarray]:
        ids = positions if self._given_ids is None else self._given_ids[positions]
        which, notes = (lambda row: which_row("", int(positions[row]))), Notes.on(bad, positions)
        return ids, rows_or_nan(rows, "embedding", which, ids, notes)

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:  # noqa: ARG002 - part of PoolSource
        """Return a table without columns: an array has none.

        Raises:
            InputError: a column is asked for.
        """
        if columns:
            raise InputError(
                f"columns {', '.join(columns)} were asked for, but an array has no columns; "
                f"{WITH_COLUMNS}, or leave columns empty"
            )
        return pa.table({})

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        checked = check_positions(positions, self.num_rows)
        rows = self._rows[checked].astype(np.float64)
        check_finite(rows, "embedding", lambda i: which_row("", int(checked[i])))
        return rows

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return "" and the position itself for each position."""
        checked = check_positions(positions, self.num_rows)
        return [""] * len(checked), checked


def _float_matrix(embeddings: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(embeddings, torch.Tensor):
        tensor = embeddings.detach().cpu()
        embeddings = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if embeddings.ndim == 3 and embeddings.shape[1] == 1:
        embeddings = embeddings[:, 0]
    if embeddings.ndim != 2 or embeddings.dtype not in _FLOATS:
        raise InputError(
            f"the array has shape {embeddings.shape} and type {embeddings.dtype}; embeddings are a rows x "
            "dim matrix of float16, float32 or float64, so reshape or cast it"
        )
    if 0 in embeddings.shape:
        raise InputError(f"the array has shape {embeddings.shape}, so it holds nothing; hand over some rows")
    rows = np.ascontiguousarray(embeddings)
    return rows if rows.flags.aligned else rows.copy()


def _is_mapped(rows: np.ndarray) -> bool:
    """Whether an array shows a file."""
    owner: Any = rows
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            return True
        owner = owner.base
    return False


def _id_array(ids: np.ndarray | Sequence[Any], num_rows: int) -> np.ndarray:
    if len(ids) != num_rows:
        raise InputError(f"there are {len(ids)} ids for {num_rows} rows; give one id per row")
    try:
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
            array = pa.array(ids)
        else:
            values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
            array = pa.array([str(value) if isinstance(value, uuid.UUID) else value for value in values])
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"ids are not all 64-bit integers or all strings: {error}; cast them") from error
    kind = common_kind({check_id_type(array.type, "ids", "")}, lambda: fits_int64(array))
    if kind == "uint" and fits_int64(array):
        kind = "int"  # NumPy has unsigned ids where a list has signed ones
    return ids_from_arrow(array, "ids", kind, lambda i: which_row("", i))
