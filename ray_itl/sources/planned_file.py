"""A file of a manifest, opened for some columns, whose rows are the planned ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.sources.columns import FileColumns
from ray_itl.sources.files.kinds import kind_of
from ray_itl.sources.files.opened import OpenFile, pick_rows, stream_rows
from ray_itl.sources.manifest import FileEntry, Manifest


class PlannedFile(NamedTuple):
    """An open file, and the columns that are wanted of it."""

    file: OpenFile
    columns: FileColumns

    def stream(
        self, groups: Sequence[int], first: int, stop: int, row_bytes: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the wanted columns as `stream_rows` does those that are stored."""
        for offset, batch in stream_rows(self.file, groups, first, stop, self.columns.stored, row_bytes):
            yield offset, self.columns.conform(batch)

    def pick(self, entry: FileEntry, rows: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(rows, batch)` covering the given sorted rows, reading those row groups that hold one."""
        base = 0
        for group, num_rows in enumerate(entry.row_groups):
            low, high = np.searchsorted(rows, [base, base + num_rows])
            if low < high:
                own, columns = rows[low:high] - base, self.columns
                for inside, batch in pick_rows(self.file, group, own, columns.stored, columns.conform):
                    yield base + inside, batch
            base += num_rows


@contextmanager
def open_planned(
    manifest: Manifest, filesystem: pafs.FileSystem, entry: FileEntry, columns: Sequence[str], option: str
) -> Iterator[PlannedFile]:
    """Open a file, check that it is the planned one and has the columns, and once more after all was read.

    Rows come from a file that may be replaced at any moment by one of equal shape: only if the one that is there
    afterwards has the planned fingerprint, for which at most 1 MiB is read, were they the planned rows.

    Args:
        manifest: What was planned.
        filesystem: Where its files are.
        entry: The file.
        columns: What is wanted of it.
        option: By which the user named them.

    Raises:
        InputError: the file was replaced, is damaged, or lacks a column.
        StorageError: storage failed for the moment.
    """
    kind = kind_of(manifest, entry.path)
    with kind.open(manifest, filesystem, entry.path) as opened:
        metadata = opened.metadata
        groups = (metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        if tuple(groups) != entry.row_groups:
            raise _replaced(entry)
        yield PlannedFile(opened, FileColumns(manifest.schema, entry.path, opened.schema_arrow, columns, option))
    if kind.fingerprint(manifest, filesystem, entry.path) != entry.fingerprint:
        raise _replaced(entry)


def _replaced(entry: FileEntry) -> InputError:
    return InputError(f"file {entry.path!r} was replaced after the pool was planned; restore it, or start a new run")
