"""Arrow files, as Hugging Face's datasets writes them: mapped into memory, so that only what is asked for is read."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.filesystems import inaccessible, local_path
from ray_itl.sources.delivery import unfinished
from ray_itl.sources.files.opened import Examined
from ray_itl.sources.files.parquet import fingerprint_of_samples
from ray_itl.sources.footer import GroupClaim
from ray_itl.sources.named_images import MOST_ROWS, named_images, with_contents
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.tables.place import Place

_SUFFIX = ".arrow"


class ArrowGroup(NamedTuple):
    """One batch of a file (see `RowGroup`)."""

    num_rows: int
    total_byte_size: int


class ArrowFile:
    """The batches of an Arrow stream (see `OpenFile` and `RandomAccess`), each a group of rows."""

    def __init__(self, file: pa.NativeFile) -> None:
        """Read how the file is built; its rows stay where they are.

        Raises:
            pyarrow.ArrowInvalid: it is no such file, or was cut short.
        """
        reader = pa.ipc.open_stream(file)
        self.schema_arrow: pa.Schema = reader.schema
        self._batches = list(reader)
        self.num_rows = sum(batch.num_rows for batch in self._batches)
        self.num_row_groups = len(self._batches)

    @property
    def metadata(self) -> ArrowFile:
        """Its groups of rows, of which it tells itself."""
        return self

    def row_group(self, i: int) -> ArrowGroup:
        """Return one group of rows."""
        return ArrowGroup(self._batches[i].num_rows, self._batches[i].get_total_buffer_size())

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        use_threads: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of the rows of some groups (None: of all) in order."""
        del use_threads
        for group in range(self.num_row_groups) if row_groups is None else row_groups:
            batch = self._read(group, columns)
            size = _most_rows(batch, batch_size)
            for first in range(0, batch.num_rows, size):
                yield with_contents(batch.slice(first, size))

    def rows_of(
        self, group: int, rows: np.ndarray, columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """See `RandomAccess`."""
        batch = self._read(group, columns)
        size = _most_rows(batch, batch_size)
        for first in range(0, len(rows), size):
            some = rows[first : first + size]
            yield some, with_contents(batch.take(pa.array(some)))

    def _read(self, group: int, columns: Sequence[str] | None) -> pa.RecordBatch:
        """Return columns of one batch; pyarrow.ArrowInvalid where they are damaged, on which Arrow might crash."""
        batch = self._batches[group]
        batch = batch if columns is None else batch.select(list(columns))
        batch.validate(full=True)
        return batch


def _most_rows(batch: pa.RecordBatch, asked: int) -> int:
    return min(asked, MOST_ROWS) if named_images(batch.schema) else asked


class ArrowKind:
    """Arrow streams on this machine's mounts (see `FileKind`)."""

    def examine(self, listing: PoolListing, path: str, column: str) -> Examined:
        """Read how the file is built, and 1 MiB of it for the fingerprint."""
        del column
        try:
            with _map(listing.filesystem, listing.full_path(path), path) as mapped:
                file = ArrowFile(mapped)
                groups = [file.row_group(number) for number in range(file.num_row_groups)]
                size = mapped.size()
                fingerprint = fingerprint_of_samples(mapped, size)
        except (pa.ArrowException, OSError) as error:
            raise unfinished(listing, path, error) or _unreadable(path, error) from error
        return Examined(size, fingerprint, [GroupClaim(group.num_rows, 0) for group in groups])

    def fingerprint(self, place: Place, filesystem: pafs.FileSystem, path: str) -> str:
        """Return the SHA-256 of the size and 1 MiB of the file."""
        with self._mapped(place, filesystem, path) as mapped:
            return fingerprint_of_samples(mapped, mapped.size())

    @contextmanager
    def open(self, place: Place, filesystem: pafs.FileSystem, path: str) -> Iterator[ArrowFile]:
        """Map the file."""
        with self._mapped(place, filesystem, path) as mapped:
            yield ArrowFile(mapped)

    @contextmanager
    def _mapped(self, place: Place, filesystem: pafs.FileSystem, path: str) -> Iterator[pa.MemoryMappedFile]:
        try:
            with _map(filesystem, posixpath.join(place.root, path), path) as mapped:
                yield mapped
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error


def is_arrow(path: str) -> bool:
    """Whether a file's name says that it is an Arrow file."""
    return path.lower().endswith(_SUFFIX)


def _map(filesystem: pafs.FileSystem, path: str, name: str) -> pa.MemoryMappedFile:
    local = local_path(filesystem, path)
    if local is None:
        raise InputError(
            f"file {name!r} is an Arrow file on a filesystem that is no mount: copy it to one, or write it as Parquet "
            "(Dataset.to_parquet)"
        )
    return pa.memory_map(local)


def _unreadable(name: str, error: Exception) -> RayItlError:
    reason = " ".join(str(error).split())
    return inaccessible(name, error) or InputError(
        f"file {name!r} cannot be read as an Arrow stream, as datasets writes it: {reason}; write it again, as Parquet"
    )
