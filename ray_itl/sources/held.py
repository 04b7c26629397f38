"""Rows that are read again and again, kept in memory where they are few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import IdKind, ids_to_arrow
from ray_itl.sources.in_memory import TableRows

_ID = "\0id"
"""The column of ids beside those that are held: no file has one of this name."""


class HeldRows:
    """The rows of a base (see `RowSource`), of which some columns stay in memory once they were read.

    Scattered rows of a file are decoded with all that stands between them: a thousand of 60,000 cost as much as all.
    Rows, ids, order and places are the base's; what the base changes later is not seen. Nothing is held where the
    columns take more than `max_bytes`, or an id cannot be used. Pickles as the base, which others read for themselves.
    """

    def __init__(self, base: RowSource, columns: Sequence[str], max_bytes: int) -> None:
        """Take rows; they are read with the first question about the columns, not with one for ids alone."""
        self.num_rows: int = base.num_rows
        self.id_kind: IdKind = base.id_kind
        self._base, self._columns, self._max_bytes = base, tuple(dict.fromkeys(columns)), max_bytes

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` for positions `start <= position < stop`, in order."""
        return self._rows(columns).row_batches(start, stop, columns, bad)

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions`, which ascend and are distinct."""
        return self._rows(columns).row_batches_at(positions, columns, bad)

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions`, in that order."""
        return self._rows(columns).take(positions, columns)

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the file of each position and its row in that file, as the base does."""
        return self._base.locate(positions)

    def __reduce__(self) -> tuple[Any, ...]:
        return _base_itself, (self._base,)

    def _rows(self, columns: Sequence[str]) -> RowSource:
        if not columns or not set(columns) <= set(self._columns):
            return self._base
        return self._held or self._base

    @cached_property
    def _held(self) -> TableRows | None:
        bad, batches, size = BadRows(), [], 0
        for ids, batch in self._base.row_batches(0, self.num_rows, self._columns, bad):
            batches.append(batch.append_column(_ID, ids_to_arrow(ids)))
            size += batches[-1].nbytes
            # The first rows tell of the rest, lest much is read only to be dropped.
            if max(size, batches[0].nbytes / batches[0].num_rows * self.num_rows) > self._max_bytes:
                return None
        # One chunk: of many, each `take` would first make one.
        return None if len(bad) else TableRows(pa.Table.from_batches(batches).combine_chunks(), _ID)


def _base_itself(base: RowSource) -> RowSource:
    return base
