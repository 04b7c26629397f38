"""What the readers know of a file of a pool, and of one that is open, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.sources.base import BATCH_BYTES
from ray_itl.sources.footer import GroupClaim
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.tables.place import Place

_MAX_BATCH_ROWS = 1 << 16


class RowGroup(Protocol):
    """Adjacent rows of a file, as pyarrow tells of them."""

    @property
    def num_rows(self) -> int:
        """How many there are."""
        ...

    @property
    def total_byte_size(self) -> int:
        """Their uncompressed size with all columns."""
        ...


class FileFacts(Protocol):
    """How the rows of a file are grouped, as pyarrow tells of it."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def num_row_groups(self) -> int:
        """Number of groups."""
        ...

    def row_group(self, i: int, /) -> RowGroup:
        """Return one group."""
        ...


class OpenFile(Protocol):
    """An open file: a `pyarrow.parquet.ParquetFile`, or what stands in its place."""

    @property
    def metadata(self) -> FileFacts:
        """Its groups of rows."""
        ...

    @property
    def schema_arrow(self) -> pa.Schema:
        """Its columns."""
        ...

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        use_threads: bool = ...,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of the rows of some groups (None: of all), in order."""
        ...


@runtime_checkable
class RandomAccess(Protocol):
    """An open file of which a row is read without those that stand before it."""

    def rows_of(
        self, group: int, rows: np.ndarray, columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(rows, columns)` covering some ascending rows of a group, counted in it, at most so many at a time."""
        ...


class Examined(NamedTuple):
    """What can be said of a file before Arrow opens it."""

    size_bytes: int
    fingerprint: str
    """A SHA-256 that changes when the file is replaced."""
    claims: list[GroupClaim]
    """What it says of its groups of rows, and of one column in each."""


class FileKind(Protocol):
    """One kind of files: how such a file is looked at and opened. Paths are relative to the root of their pool.

    Raises:
        InputError: in every method: the file cannot be read (names it).
        StorageError: in every method: storage failed for the moment.
    """

    def examine(self, listing: PoolListing, path: str, column: str) -> Examined:
        """Look at a file that was listed a moment ago; UnfinishedFileError where it may still be being written."""
        ...

    def fingerprint(self, place: Place, filesystem: pafs.FileSystem, path: str) -> str:
        """Return its fingerprint as it is now."""
        ...

    def open(self, place: Place, filesystem: pafs.FileSystem, path: str) -> AbstractContextManager[OpenFile]:
        """Open it, for a block in which it is read; whatever goes wrong within is told as this file's error."""
        ...


def stream_rows(
    file: OpenFile,
    row_groups: Sequence[int],
    first: int,
    stop: int,
    columns: Sequence[str],
    row_bytes: int,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield `(offset, batch)` covering rows `first <= row < stop`, counted over `row_groups` in order.

    `offset` is the row of the batch's first row in that counting; `row_bytes`, the decoded size of one row, sets the
    batch size. Rows before `first` are decoded and dropped, rows from `stop` on are not read. Memory: a few MiB besides
    the batch, whatever the size of a row group.

    Raises:
        pyarrow.ArrowInvalid: the file has fewer rows than its footer promises.
    """
    row = 0
    size = _batch_rows(row_bytes)
    for batch in file.iter_batches(size, row_groups=list(row_groups), columns=list(columns), use_threads=False):
        begin, end = max(first, row), min(stop, row + batch.num_rows)
        if begin < end:
            # A name also selects what is nested below it ("a" selects "a.b"): keep what was asked for.
            yield begin, batch.slice(begin - row, end - begin).select(list(columns))
        row += batch.num_rows
        if row >= stop:
            return
    raise pa.ArrowInvalid(f"its pages hold {row} rows where its footer promises at least {stop}")


def pick_rows(
    file: OpenFile,
    group: int,
    rows: np.ndarray,
    columns: Sequence[str],
    conform: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Yield `(rows, columns)` covering ascending rows of a row group, counted in it, one small batch at a time.

    Where a file has no random access, what stands between them is read as well. `conform` gives columns the pool's
    types, before rows are taken of them: Arrow takes none of views.
    """
    row_bytes = estimate_row_bytes(file.metadata, group)
    if isinstance(file, RandomAccess):
        for numbers, batch in file.rows_of(group, rows, columns, _batch_rows(row_bytes)):
            yield numbers, conform(batch)
        return
    for start, batch in stream_rows(file, [group], int(rows[0]), int(rows[-1]) + 1, columns, row_bytes):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        if low < high:
            all_of_it, batch = high - low == batch.num_rows, conform(batch)
            yield rows[low:high], batch if all_of_it else batch.take(pa.array(rows[low:high] - start))


def _batch_rows(row_bytes: int) -> int:
    return max(1, min(BATCH_BYTES // max(1, row_bytes), _MAX_BATCH_ROWS))


def estimate_row_bytes(metadata: FileFacts, row_group: int) -> int:
    """Return the mean uncompressed size in bytes of one row with all its columns, from the footer.

    Not of single columns: pyarrow ends the process when a damaged footer is asked about one.
    """
    group = metadata.row_group(row_group)
    return max(1, group.total_byte_size // max(1, group.num_rows))
