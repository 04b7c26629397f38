"""What a Parquet footer claims, read with bounds before Arrow makes objects of it, and which claims are believed.

A footer is data from elsewhere. Arrow builds an object for every column of every row group that one names, and decodes
as many numbers into a row as a page asks for. So what is claimed is counted here first, from the bytes alone: what is
allocated later follows from it, and no small file may ask for a lot of memory. (Arrow's own account of single columns
is no help: it ends the process when it is asked about a damaged one.)

The encoding is Thrift's compact protocol; the field numbers are those of parquet.thrift in apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa

from ray_itl.errors import InputError

MAX_COLUMNS = 50_000
MAX_ROW_GROUPS = 50_000
MAX_CHUNKS = 250_000
"""Columns times row groups: Arrow holds about 1 KiB for each."""
_MAX_DEPTH = 20
_MAX_FOOTER_BYTES = 1 << 25
_TAIL_BYTES = 8  # the length of the footer, then the magic number
_MAGIC = b"PAR1"
_MAGIC_OF_ENCRYPTED = b"PARE"

_BOOLEANS = (1, 2)
_BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
_SCHEMA, _ROW_GROUPS = 2, 4  # of FileMetaData
_COLUMNS, _NUM_ROWS = 1, 3  # of RowGroup
_META_DATA = 3  # of ColumnChunk
_PATH, _NUM_VALUES = 3, 5  # of ColumnMetaData
MAX_DIM = 1 << 16
MAX_EXCESS = 1 << 20
"""Numbers in a row group beyond what its rows should have: up to here the bad row is read, and named."""

# Real embeddings take more than a byte for each number. A column of one value takes next to nothing, so that a file of
# some kilobytes could ask for any amount of memory; it may ask for 64 MiB, and beyond that for 1000 numbers a byte.
_PER_BYTE = 1000
_FREE = 1 << 24


class NoFooterError(pa.ArrowInvalid):
    """A file does not end as a Parquet file does, though it may begin as one: not all of it is there."""


class GroupClaim(NamedTuple):
    """One row group: its rows, and the leaf values that a column (with all below it) has in them, nulls included."""

    num_rows: int
    num_values: int


def footer_bytes(file: pa.NativeFile, size: int) -> bytes:
    """Return the footer of an open file of `size` bytes.

    Raises:
        NoFooterError: it has none, and may get one.
        pyarrow.ArrowInvalid: it is something else, or has one that is encrypted, or above 32 MiB.
    """
    tail = file.read_at(_TAIL_BYTES, size - _TAIL_BYTES) if size >= 2 * _TAIL_BYTES else b""
    if tail[4:] == _MAGIC_OF_ENCRYPTED:
        raise pa.ArrowInvalid("its footer is encrypted")
    if tail[4:] != _MAGIC:
        head = file.read_at(min(size, len(_MAGIC)), 0)
        is_begun = _MAGIC.startswith(head) or not any(head)  # zeros: room that was made for it
        kind = NoFooterError if is_begun else pa.ArrowInvalid
        raise kind("it does not end as a Parquet file does, so it is something else or was cut short")
    length = int.from_bytes(tail[:4], "little")
    if length > size - _TAIL_BYTES:
        raise pa.ArrowInvalid(f"its footer claims {length} bytes in a file of {size}")
    if length > _MAX_FOOTER_BYTES:
        raise pa.ArrowInvalid(
            f"its footer has {length:,} bytes, more than {_MAX_FOOTER_BYTES:,}: give it larger row groups "
            "or fewer columns"
        )
    return file.read_at(length, size - _TAIL_BYTES - length)


def read_claims(footer: bytes, column: str) -> list[GroupClaim]:
    """Return what a footer says of every row group; `num_values` is 0 where it does not mention `column`.

    Time and memory O(size of the footer).

    Raises:
        pyarrow.ArrowInvalid: the footer is damaged, or names more than MAX_COLUMNS columns, MAX_ROW_GROUPS row groups
            or MAX_CHUNKS of both.
    """
    try:
        return _Reader(footer, column.encode()).claims()
    except (IndexError, RecursionError) as error:
        raise pa.ArrowInvalid("its footer is damaged") from error


def check_amount(claims: Sequence[GroupClaim], size: int, path: str) -> None:
    """Check that a file of `size` bytes can hold as many rows and numbers as it claims.

    Raises:
        InputError: it cannot.
    """
    for what, count in (("rows", sum(c.num_rows for c in claims)), ("numbers", sum(c.num_values for c in claims))):
        if count > _FREE + _PER_BYTE * size:
            raise InputError(
                f"file {path!r} claims {count:,} {what} in {size:,} bytes, which is not believed; write it again "
                "from real data"
            )


def check_dim(dim: int, column: str, option: str) -> None:
    """Check that embeddings of a dimension are no larger than those that are used.

    Raises:
        InputError: they are.
    """
    if dim > MAX_DIM:
        raise InputError(
            f"embedding column {column!r} has dimension {dim:,}, more than {MAX_DIM:,}; name another column in "
            f"{option}, or use smaller embeddings"
        )


def check_lengths(claims: Sequence[GroupClaim], dim: int, column: str, path: str) -> None:
    """Check that no row group has far more numbers than its rows should have: a row may hold them all.

    Raises:
        InputError: one has (names it).
    """
    for group, claim in enumerate(claims):
        if claim.num_values > 2 * dim * claim.num_rows + MAX_EXCESS:
            raise wrong_lengths(group, claim, column, path)


def wrong_lengths(group: int, claim: GroupClaim, column: str, path: str) -> InputError:
    """Return the error for a row group whose rows cannot all have the same dimension."""
    return InputError(
        f"file {path!r}, row group {group}: column {column!r} has {claim.num_values:,} numbers in {claim.num_rows:,} "
        "rows; every row needs the same dimension, so embed the pool with one model"
    )


class _Reader:
    """Walks over one footer."""

    def __init__(self, footer: bytes, column: bytes) -> None:
        self._bytes = footer
        self._at = 0
        self._column = column
        self._num_columns = 0
        self._claims: list[GroupClaim] = []

    def claims(self) -> list[GroupClaim]:
        self._struct({_SCHEMA: self._schema, _ROW_GROUPS: self._row_groups})
        return self._claims

    def _schema(self) -> None:
        self._num_columns = self._count(MAX_COLUMNS, "columns")
        for _ in range(self._num_columns):
            self._skip(_STRUCT)

    def _row_groups(self) -> None:
        count = self._count(MAX_ROW_GROUPS, "row groups")
        if count * self._num_columns > MAX_CHUNKS:
            raise pa.ArrowInvalid(
                f"its footer claims {count:,} row groups of {self._num_columns:,} columns, more than {MAX_CHUNKS:,} "
                "pieces: give it larger row groups or fewer columns"
            )
        for _ in range(count):
            self._row_group()

    def _row_group(self) -> None:
        num_rows = num_values = 0

        def columns() -> None:
            nonlocal num_values
            for _ in range(self._count(MAX_COLUMNS, "columns")):
                num_values += self._chunk()

        def rows() -> None:
            nonlocal num_rows
            num_rows = self._integer()

        self._struct({_COLUMNS: columns, _NUM_ROWS: rows})
        self._claims.append(GroupClaim(num_rows, num_values))

    def _chunk(self) -> int:
        """Return the values of a column chunk if it belongs to the column."""
        wanted, num_values = False, 0

        def path() -> None:
            nonlocal wanted
            for depth in range(self._count(MAX_COLUMNS, "names")):
                name = self._binary()
                wanted = wanted or (depth == 0 and name == self._column)

        def values() -> None:
            nonlocal num_values
            num_values = self._integer()

        self._struct({_META_DATA: lambda: self._struct({_PATH: path, _NUM_VALUES: values})})
        return num_values if wanted else 0

    def _struct(self, fields: dict[int, Callable[[], None]], depth: int = 0) -> None:
        """Read a struct: `fields` read those that are wanted, the others are skipped."""
        number = 0
        while header := self._byte():
            delta, kind = header >> 4, header & 15
            number = number + delta if delta else self._integer()
            if number in fields:
                fields[number]()
            elif kind not in _BOOLEANS:  # whose value is in the header
                self._skip(kind, depth + 1)

    def _skip(self, kind: int, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise pa.ArrowInvalid("its footer is nested too deeply")
        if kind in _INTEGERS:
            self._varint()
        elif kind in (_BYTE, *_BOOLEANS):
            self._at += 1
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            self._binary()
        elif kind in _LISTS:
            self._skip_items(*self._list_header(), depth)
        elif kind == _MAP:
            size = self._varint()
            kinds = self._byte() if size else 0
            for _ in range(size):
                self._skip(kinds >> 4, depth + 1)
                self._skip(kinds & 15, depth + 1)
        elif kind == _STRUCT:
            self._struct({}, depth)
        else:
            raise pa.ArrowInvalid("its footer is damaged")
        if self._at > len(self._bytes):
            raise pa.ArrowInvalid("its footer is cut short")

    def _skip_items(self, size: int, kind: int, depth: int) -> None:
        for _ in range(size):
            self._skip(kind, depth + 1)

    def _count(self, most: int, what: str) -> int:
        """Return the length of the list that begins here.

        Raises:
            pyarrow.ArrowInvalid: it is above `most`.
        """
        size, _ = self._list_header()
        if size > most:
            raise pa.ArrowInvalid(f"its footer claims {size:,} {what}, more than {most:,}")
        return size

    def _list_header(self) -> tuple[int, int]:
        header = self._byte()
        size = header >> 4
        return (self._varint() if size == 15 else size), header & 15

    def _byte(self) -> int:
        self._at += 1
        return self._bytes[self._at - 1]

    def _binary(self) -> bytes:
        size = self._varint()
        self._at += size
        return self._bytes[self._at - size : self._at]

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise pa.ArrowInvalid("its footer is damaged")
