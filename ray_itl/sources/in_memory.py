"""Rows in memory as sources: Arrow tables, with or without embeddings, and numpy or torch arrays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows, Notes, embeddings_or_nan, ids_or_blank, rows_or_nan
from ray_itl.sources.condition import RowMask
from ray_itl.sources.encoding import Encoding, RawBatch
from ray_itl.sources.ids import IdKind, check_id_type, common_kind, fits_int64, ids_from_arrow
from ray_itl.sources.manifest import check_range
from ray_itl.sources.named_images import MOST_ROWS, named_images, table_with_contents, with_contents
from ray_itl.sources.schema import (
    WhichRow,
    check_embedding_type,
    check_finite,
    check_positions,
    embedding_matrix,
    find_column,
    usual_dim,
    which_row,
)
from ray_itl.sources.taking import take_rows
from ray_itl.sources.types import carried_type, cast

_BATCH_BYTES = 2 << 20
_FLOATS = (np.float16, np.float32, np.float64)
WITH_COLUMNS = "hand over a table, a frame, or files"
"""What has columns, for messages."""


class TableRows:
    """Rows of a pyarrow Table (see `RowSource`); pickles with all its data.

    An empty `id_column` means that a row's id is its position.
    """

    def __init__(self, table: pa.Table, id_column: str, kept: RowMask | None = None, id_option: str = "id_column"):
        """Take a table.

        With `kept`, those rows of the table alone are there; `locate` tells where they stand in the table. `id_option`
        names the id column, for messages.

        Raises:
            InputError: the id column is not there or of another type, or the table has no rows.
        """
        self._rows = None if kept is None else kept.rows_between(0, kept.count)
        table = _without_views(table)
        table = table if kept is None else table.filter(pa.array(kept.slice(0, kept.num_rows)))
        self.id_kind: IdKind = "int"
        if id_column:
            self.id_kind = _id_kind(table, id_column, id_option)
        if table.num_rows == 0:
            raise InputError("the table has no rows; hand over one that has some")
        self.num_rows: int = table.num_rows
        self.table = table
        self._id_column = id_column
        self._mean_step = max(1, _BATCH_BYTES * table.num_rows // max(1, table.nbytes))
        if named_images(table.schema):
            self._mean_step = min(self._mean_step, MOST_ROWS)

    @property
    def has_ids(self) -> bool:
        """Whether a column has the rows' ids, so that their positions are not."""
        return bool(self._id_column)

    def only(self, kept: RowMask) -> Self:
        """Return the kept rows alone, at least one; `locate` tells where they stand in the table."""
        own, rows = copy(self), kept.rows_between(0, kept.count)
        own.table = self.table.filter(pa.array(kept.slice(0, kept.num_rows)))
        own.num_rows, own._rows = kept.count, rows if self._rows is None else self._rows[rows]
        return own

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        table, positions = self.table.slice(start, stop - start), np.arange(start, stop)
        for ids, batch, _ in self._batches(table, positions, columns, self._mean_step, bad):
            yield ids, batch

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions`, which ascend and are distinct."""
        checked = check_positions(positions, self.num_rows)
        for first in range(0, len(checked), self._mean_step):
            some = checked[first : first + self._mean_step]
            table = self.table.take(pa.array(some))
            for ids, batch, _ in self._batches(table, some, columns, self._mean_step, bad):
                yield ids, batch

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions`, in that order.

        Raises:
            InputError: a column is not there.
        """
        checked = check_positions(positions, self.num_rows)
        self._check_columns(columns)
        return table_with_contents(take_rows(self.table.select(list(columns)), checked))

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return "" and the row in the table for each position."""
        checked = check_positions(positions, self.num_rows)
        return [""] * len(checked), checked if self._rows is None else self._rows[checked]

    def _words_for(self, positions: np.ndarray) -> WhichRow:
        return lambda row: which_row("", int(self.locate(positions[[row]])[1][0]))

    def _batches(
        self, table: pa.Table, positions: np.ndarray, columns: Sequence[str], step: int, bad: BadRows | None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch, Notes | None]]:
        self._check_columns(columns)
        names = dict.fromkeys([*columns, *([self._id_column] if self._id_column else [])])
        first = 0
        for batch in table.select(list(names)).to_batches(max_chunksize=step):
            some = positions[first : first + batch.num_rows]
            notes = Notes.on(bad, some)
            yield self._ids(batch, some, notes), with_contents(batch.select(list(columns))), notes
            first += batch.num_rows

    def _check_columns(self, columns: Sequence[str]) -> None:
        for column in columns:
            find_column(self.table.schema, column, "columns", "")

    def _ids(self, batch: pa.RecordBatch, positions: np.ndarray, notes: Notes | None) -> np.ndarray:
        column = self._id_column
        if not column:
            return positions
        return ids_or_blank(batch.column(column), column, self.id_kind, self._words_for(positions), notes)


class TableSource(TableRows):
    """Rows with an embedding column, or with one that is embedded while it is read (see `PoolSource`)."""

    def __init__(
        self,
        table: pa.Table,
        id_column: str,
        embedding_column: str,
        kept: RowMask | None = None,
        id_option: str = "id_column",
        embedding_option: str = "embedding_column",
        encoding: Encoding | None = None,
    ):
        """Take a table with both columns; `kept` and the options as of `TableRows`.

        With `encoding`, the column that it embeds is there instead, and `embedding_column` is empty.

        Raises:
            InputError: a column is not there or of another type, or the table has no rows.
        """
        self.encoding, self._embedding_column = encoding, embedding_column
        if encoding is not None:
            super().__init__(table, id_column, kept, id_option)
            self.dim, self.dtype = encoding.dim, np.dtype(np.float32)
            return
        field = find_column(table.schema, embedding_column, embedding_option, "")
        kind = check_embedding_type(field.type, embedding_column, "", embedding_option)
        super().__init__(table, id_column, kept, id_option)
        first = self.table.column(embedding_column).slice(0, 256).combine_chunks()
        self.dim: int = kind.dim or usual_dim(first, embedding_column, "")
        self.dtype: np.dtype = kind.dtype

    def columns_of(self, file: str) -> list[str]:
        """Return all columns of the table, which is in no `file`, but the embedding."""
        assert not file, "rows of a table are in no file"
        return [name for name in dict.fromkeys(self.table.column_names) if name != self._embedding_column]

    def metadata_of(self, file: str) -> dict[bytes, bytes]:
        """Return what the schema of the table, which is in no `file`, says of itself, beside its columns."""
        assert not file, "rows of a table are in no file"
        return dict(self.table.schema.metadata or {})

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        if self.encoding is not None:
            yield from self.encoding.embedded(
                stop - start, lambda a, b, columns: self._raw(np.arange(start + a, start + b), columns, bad)
            )
            return
        yield from self._embedded(self.table.slice(start, stop - start), np.arange(start, stop), bad)

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        checked = check_positions(positions, self.num_rows)
        if self.encoding is not None:
            yield from self.encoding.embedded(len(checked), lambda a, b, columns: self._raw(checked[a:b], columns, bad))
            return
        step = self._step()
        for first in range(0, len(checked), step):
            some = checked[first : first + step]
            yield from self._embedded(self.table.take(pa.array(some)), some, bad)

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        checked = check_positions(positions, self.num_rows)
        if self.encoding is not None:
            unique, inverse = np.unique(checked, return_inverse=True)
            found = [rows.astype(np.float64) for _, rows in self.batches_at(unique)]
            return np.concatenate([np.empty((0, self.dim)), *found])[inverse]
        column = self.take(checked, [self._embedding_column]).column(0)
        return embedding_matrix(column.chunks, self.dim, self._embedding_column, self._words_for(checked))

    def _embedded(
        self, table: pa.Table, positions: np.ndarray, bad: BadRows | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first, column = 0, self._embedding_column
        for ids, batch, notes in self._batches(table, positions, [column], self._step(), bad):
            which = self._words_for(positions[first : first + len(ids)])
            yield ids, embeddings_or_nan(batch.column(0), self.dim, column, which, self.dtype, ids, notes)
            first += len(ids)

    def _raw(self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None) -> Iterator[RawBatch]:
        for first in range(0, len(positions), self._mean_step):
            some = positions[first : first + self._mean_step]
            table = self.table.take(pa.array(some))
            for ids, batch, notes in self._batches(table, some, columns, self._mean_step, bad):
                yield ids, batch, self._words_for(some), notes

    def _step(self) -> int:
        return max(1, _BATCH_BYTES // (self.dim * self.dtype.itemsize))


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
        step = max(1, _BATCH_BYTES // (self.dim * self.dtype.itemsize))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            yield self._checked(np.arange(first, last), self._rows[first:last], bad)

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        positions = check_positions(positions, self.num_rows)
        step = max(1, _BATCH_BYTES // (self.dim * self.dtype.itemsize))
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


def _without_views(table: pa.Table) -> pa.Table:
    """Return a table without the types that few of Arrow's functions take."""
    for place, field in enumerate(table.schema):
        kind = carried_type(field.type)
        if kind != field.type:
            table = table.set_column(place, field.with_type(kind), cast(table.column(place), kind))
    return table


def _id_kind(table: pa.Table, column: str, option: str) -> IdKind:
    form = check_id_type(find_column(table.schema, column, option, "").type, column, "", option)
    return common_kind({form}, lambda: all(map(fits_int64, table.column(column).chunks)))


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
