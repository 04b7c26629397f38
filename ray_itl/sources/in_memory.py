"""Rows of Arrow tables as sources, with or without embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Self

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows, Notes, embeddings_or_nan, ids_or_blank
from ray_itl.sources.base import BATCH_BYTES
from ray_itl.sources.condition import RowMask
from ray_itl.sources.encoding import Encoding, RawBatch
from ray_itl.sources.ids import IdKind, check_id_type, common_kind, fits_int64
from ray_itl.sources.manifest import check_range
from ray_itl.sources.named_images import MOST_ROWS, named_images, table_with_contents, with_contents
from ray_itl.sources.schema import (
    WhichRow,
    check_embedding_type,
    check_positions,
    embedding_matrix,
    find_column,
    usual_dim,
    which_row,
)
from ray_itl.sources.taking import take_rows
from ray_itl.sources.types import carried_type, cast


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
        self._mean_step = max(1, BATCH_BYTES * table.num_rows // max(1, table.nbytes))
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
        return max(1, BATCH_BYTES // (self.dim * self.dtype.itemsize))


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
