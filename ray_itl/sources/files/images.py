"""The images of one folder as rows: which they are is known from the pool's listing, each is read when it is asked for.

Columns: file_name (the path within the pool), folder (the path of the folder, "" for the pool's own), label (the
folder's own name, null there) and image (the encoded image, as the file has it), and those of a file beside them (see
`image_columns`), which may give another folder and label.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.io.filesystems import inaccessible, local_path
from ray_itl.io.image_files import folder_of
from ray_itl.io.image_lists import ListedImage
from ray_itl.sources.files.image_columns import (
    FILE_NAME,
    IMAGE,
    ImageEntries,
    columns_of_images,
    digest_of,
    entries_of,
)
from ray_itl.sources.files.opened import Examined
from ray_itl.sources.footer import GroupClaim
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.tables.place import Place

SCHEMA = pa.schema(
    {FILE_NAME: pa.string(), "folder": pa.string(), "label": pa.string(), IMAGE: pa.large_binary()}  # type: ignore[arg-type]
)
_GROUP_ROWS = 256
_NAMES_BYTES = 100
"""What a row takes without its image, about."""
_THREADS = 16
"""Of remote filesystems so many images are fetched at a time."""


class ImageGroup:
    """Adjacent images of a folder (see `RowGroup`)."""

    def __init__(self, images: Sequence[ListedImage]) -> None:
        self.num_rows = len(images)
        self.total_byte_size = sum(image.size + _NAMES_BYTES for image in images)


class ImageFolder:
    """The images of one folder (see `OpenFile`): single rows are read without those before them."""

    def __init__(self, place: Place, filesystem: pafs.FileSystem, path: str) -> None:
        """Take the images that were listed under a path of the pool; reads nothing."""
        self._list = place.images[path]
        self._images = self._list.images
        self._folder = folder_of(path)
        self._root, self._about = place.root, place.image_columns.get(path)
        self._base = posixpath.join(place.root, self._folder) if self._folder else place.root
        self._filesystem = filesystem
        self.num_rows = len(self._images)
        self.num_row_groups = -(-self.num_rows // _GROUP_ROWS)

    @cached_property
    def schema_arrow(self) -> pa.Schema:
        """The columns: the image last, as those of a file beside it come before."""
        given = {} if self._entries is None else {each.name: each for each in self._entries.columns.schema}
        own = {each.name: each for each in SCHEMA}
        fields = {**own, **given}
        return pa.schema([*(fields[name] for name in fields if name != IMAGE), own[IMAGE]])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, sizes and times of the images, and of what a file beside them says of these."""
        digest = "" if self._entries is None else digest_of(self._given(self._images))
        own = self._list.fingerprint
        return sha256(f"{own} {digest}".encode()).hexdigest() if digest else own

    @cached_property
    def _entries(self) -> ImageEntries | None:
        return None if self._about is None else entries_of(self._filesystem, self._root, self._about)

    def _given(self, images: Sequence[ListedImage]) -> pa.Table:
        """Return what the file beside them says of images."""
        assert self._entries is not None
        return columns_of_images(self._entries, self._folder, [image.name for image in images])

    @property
    def metadata(self) -> ImageFolder:
        """Its groups of rows, of which it tells itself."""
        return self

    def row_group(self, i: int) -> ImageGroup:
        """Return one group of rows."""
        return ImageGroup(self._images[i * _GROUP_ROWS : (i + 1) * _GROUP_ROWS])

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        use_threads: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of the rows of adjacent groups (None: of all) in order; files are read for that of images."""
        del use_threads
        row_groups = range(self.num_row_groups) if row_groups is None else row_groups
        first = row_groups[0] * _GROUP_ROWS if row_groups else 0
        stop = min((row_groups[-1] + 1) * _GROUP_ROWS, self.num_rows) if row_groups else 0
        yield from self._batches(np.arange(first, stop), batch_size, columns)

    def rows_of(
        self, group: int, rows: np.ndarray, columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """See `RandomAccess`."""
        done = 0
        for batch in self._batches(group * _GROUP_ROWS + rows, batch_size, columns):
            yield rows[done : done + batch.num_rows], batch
            done += batch.num_rows

    def _batches(self, rows: np.ndarray, size: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        names = self.schema_arrow.names if columns is None else list(dict.fromkeys(columns))
        size = size if IMAGE in names else max(size, _GROUP_ROWS)
        for begin in range(0, len(rows), size):
            images = [self._images[row] for row in rows[begin : begin + size].tolist()]
            # A batch without columns would not know how many rows it has.
            yield self._batch(images, names) if names else self._batch(images, [FILE_NAME]).select([])

    def _batch(self, images: Sequence[ListedImage], names: Sequence[str]) -> pa.RecordBatch:
        own = posixpath.basename(self._folder) or None
        columns = {
            FILE_NAME: lambda: [self._file_name(image) for image in images],
            "folder": lambda: [self._folder] * len(images),
            "label": lambda: [own] * len(images),
            IMAGE: lambda: self._contents(images),
        }
        schema = pa.schema([self.schema_arrow.field(name) for name in names])
        told: set[str] = set() if self._entries is None else {*self._entries.columns.column_names}
        given = self._given(images) if told & {*names} else None
        arrays = [
            given.column(each.name).combine_chunks()
            if given is not None and each.name in told
            else pa.array(columns[each.name](), each.type)
            for each in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _file_name(self, image: ListedImage) -> str:
        return posixpath.join(self._folder, image.name)

    def _contents(self, images: Sequence[ListedImage]) -> list[bytes]:
        if local_path(self._filesystem, self._base) is not None:
            return [self._read(image) for image in images]
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(self._read, images))

    def _read(self, image: ListedImage) -> bytes:
        path = posixpath.join(self._base, image.name)
        try:
            with self._filesystem.open_input_stream(path) as file:
                content = file.read()
            local = local_path(self._filesystem, path)
            modified = None if local is None else os.stat(local).st_mtime_ns  # noqa: PTH116  a name may be any bytes
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._file_name(image), error) from error
        if len(content) != image.size or (None not in (modified, image.modified) and modified != image.modified):
            raise InputError(
                f"file {self._file_name(image)!r} was replaced after the pool was planned; restore it, with the time "
                "that it had, or start a new run"
            )
        return content


def image_paths(place: Place, path: str, rows: np.ndarray) -> list[str]:
    """Return the paths within the pool of some rows of a folder of images."""
    images, folder = place.images[path].images, folder_of(path)
    return [posixpath.join(folder, images[row].name) for row in rows.tolist()]


class ImagesKind:
    """Folders of images (see `FileKind`), of which the list says all but what the images show."""

    def examine(self, listing: PoolListing, path: str, column: str) -> Examined:
        """Look at the list."""
        del column
        folder = ImageFolder(listing, listing.filesystem, path)
        groups = [folder.row_group(number) for number in range(folder.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        return Examined(size, folder.fingerprint, [GroupClaim(group.num_rows, 0) for group in groups])

    def fingerprint(self, place: Place, filesystem: pafs.FileSystem, path: str) -> str:
        """Return that of the list, and of the columns beside: each image is compared with the list when it is read."""
        return ImageFolder(place, filesystem, path).fingerprint

    @contextmanager
    def open(self, place: Place, filesystem: pafs.FileSystem, path: str) -> Iterator[ImageFolder]:
        """Take the list."""
        yield ImageFolder(place, filesystem, path)


def _unreadable(name: str, error: Exception) -> Exception:
    reason = " ".join(str(error).split())
    return inaccessible(name, error) or InputError(
        f"file {name!r} cannot be read: {reason}; write or copy the file again"
    )
