"""Rows of a table by their numbers, however many bytes they hold together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

_CHUNK_BYTES = 1 << 30
"""A chunk of Arrow's usual texts, bytes and lists may hold 2 GiB."""


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return the rows of a table of these numbers (any order, repeats allowed), in chunks of at most 1 GiB or a row."""
    if table.nbytes <= _CHUNK_BYTES and _bytes_taken(table, rows) <= _CHUNK_BYTES:
        return table.take(pa.array(rows))
    return pa.table([_taken(column, rows) for column in table.columns], schema=table.schema)


def _bytes_taken(table: pa.Table, rows: np.ndarray) -> int:
    """Return at most how many bytes the rows take: exact where none is repeated."""
    most = int(np.unique(rows, return_counts=True)[1].max()) if len(rows) else 0
    return table.nbytes * most


def _taken(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.concat_arrays(pieces) for pieces in _pieces(column, rows)], column.type)


def _pieces(column: pa.ChunkedArray, rows: np.ndarray) -> Iterator[list[pa.Array]]:
    """Yield the rows one by one, in lists of at most 1 GiB each."""
    pieces: list[pa.Array] = []
    held = 0
    for row in rows.tolist():
        piece = column.slice(row, 1).chunk(0)
        if pieces and held + piece.nbytes > _CHUNK_BYTES:
            yield pieces
            pieces, held = [], 0
        pieces.append(piece)
        held += piece.nbytes
    if pieces:
        yield pieces
