"""Columns of images from the file beside them, as Hugging Face's imagefolder has it: metadata.jsonl or metadata.csv.

Each row of it has a `file_name`, the path of an image below the file's own folder, and columns, which the image then
has. Of several such files above an image the nearest counts. Images without such a row have nulls.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError
from ray_itl.io.filesystems import unreachable
from ray_itl.io.image_files import folder_of
from ray_itl.io.image_lists import ImageList
from ray_itl.sources.schema import which_row
from ray_itl.sources.text.twin import twin_of
from ray_itl.text import plural

IMAGE = "image"
FILE_NAME = "file_name"
_FILES_KEPT = 2


@dataclass(frozen=True)
class ImageEntries:
    """What one file says of images."""

    columns: pa.Table
    """All but file_name."""
    rows: Mapping[str, int]
    """Path of an image below the root of the pool -> the first row about it."""
    num_repeated: int
    """Rows about an image of which an earlier row tells."""


def nearest_above(folder: str, files: Mapping[str, str]) -> str | None:
    """Return the file that tells of the images in a folder, from folder -> file; None where there is none."""
    while True:
        if folder in files or not folder:
            return files.get(folder)
        folder = posixpath.dirname(folder)


def files_about(names: Sequence[str], images: Mapping[str, ImageList]) -> dict[str, str]:
    """Return, for each folder of images, the file that tells of them.

    Args:
        names: Paths of all such files below the root of the pool.
        images: The folders, by what stands for them.

    Raises:
        InputError: a folder has two such files.
    """
    by_folder: dict[str, str] = {}
    for name in sorted(names):
        other = by_folder.setdefault(posixpath.dirname(name), name)
        if other != name:
            raise InputError(f"{other!r} and {name!r} both tell of the images beside them: keep one of them")
    found = {path: nearest_above(folder_of(path), by_folder) for path in images}
    return {path: name for path, name in found.items() if name is not None}


def entries_of(filesystem: pafs.FileSystem, root: str, name: str) -> ImageEntries:
    """Read what a file says of images.

    Raises:
        InputError: it is not what its name says, lacks the column file_name, has a row without one, or a column image.
        StorageError, CacheError: as of `twin_of`.
    """
    twin = twin_of(filesystem, posixpath.join(root, name), name)
    return _entries(str(twin.path), twin.fingerprint, name)


@lru_cache(maxsize=_FILES_KEPT)
def _entries(twin: str, fingerprint: str, name: str) -> ImageEntries:
    del fingerprint  # a part of what is remembered
    table = pq.read_table(twin)
    if FILE_NAME not in table.column_names:
        raise InputError(f"{name!r} has no column {FILE_NAME!r}, which says of which image a row tells: add it")
    if IMAGE in table.column_names:
        raise InputError(f"{name!r} has a column {IMAGE!r}, which is the image itself: give it another name")
    folder, rows, repeated = posixpath.dirname(name), {}, 0
    for row, own in enumerate(table.column(FILE_NAME).to_pylist()):
        if not isinstance(own, str) or not own:
            raise InputError(f"{which_row(name, row)}: {FILE_NAME} is {own!r}: name an image below {folder or '.'!r}")
        path = posixpath.normpath(posixpath.join(folder, own))
        repeated += path in rows
        rows.setdefault(path, row)
    return ImageEntries(table.drop_columns([FILE_NAME]), rows, repeated)


def columns_of_images(entries: ImageEntries, folder: str, images: Sequence[str]) -> pa.Table:
    """Return the columns of some images of a folder, by their names there, in order."""
    if not entries.columns.num_columns:
        return entries.columns
    rows = [entries.rows.get(posixpath.join(folder, image)) for image in images]
    return entries.columns.take(pa.array(rows, pa.int64())).combine_chunks()


def digest_of(columns: pa.Table) -> str:
    """Return a SHA-256 of what images have in columns; "" where they have nothing."""
    if all(column.null_count == len(column) for column in columns.columns):
        return ""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as stream:
        stream.write_table(columns)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def check_entries(
    filesystem: pafs.FileSystem, root: str, about: Mapping[str, str], images: Mapping[str, ImageList]
) -> tuple[str, ...]:
    """Compare what files say of images with the images that there are.

    Returns:
        What people should know, a line for each file.

    Raises:
        InputError: a row is about a file that does not exist (names it), or as of `entries_of`.
    """
    return tuple(_words(filesystem, root, name, about, images) for name in sorted({*about.values()}))


def _words(
    filesystem: pafs.FileSystem, root: str, name: str, about: Mapping[str, str], images: Mapping[str, ImageList]
) -> str:
    entries = entries_of(filesystem, root, name)
    here = {image for path, own in about.items() if own == name for image in _paths(path, images[path])}
    without = sorted(here - entries.rows.keys())
    others = [path for path in entries.rows if path not in here]
    _require_files(filesystem, root, name, entries, others)
    told = []
    if without:
        told.append(f"{plural(len(without), 'image')} without a row there, such as {without[0]}, have nulls")
    if others:
        told.append(f"{plural(len(others), 'row')} about files that are no rows here, such as {others[0]}, passed over")
    if entries.num_repeated:
        told.append(f"{plural(entries.num_repeated, 'row')} about images of an earlier row, which counts")
    columns = ", ".join(entries.columns.column_names) or "no columns"
    return "; ".join([f"{name} gives {plural(len(here), 'image')} {columns}", *told])


def _paths(path: str, images: ImageList) -> Iterator[str]:
    return (posixpath.join(folder_of(path), image.name) for image in images.images)


def _require_files(
    filesystem: pafs.FileSystem, root: str, name: str, entries: ImageEntries, paths: Sequence[str]
) -> None:
    """Raise InputError for the first of some paths where nothing is."""
    if not paths:
        return
    try:
        found = filesystem.get_file_info([posixpath.join(root, path) for path in paths])
    except (pa.ArrowException, OSError) as error:
        raise unreachable("read", name, error) from error
    for path, info in zip(paths, found, strict=True):
        if info.type == pafs.FileType.NotFound:
            raise InputError(
                f"{which_row(name, entries.rows[path])}: {FILE_NAME} names {path!r}, which does not exist: mend the "
                "name, or remove the row"
            )
