"""The picks of a pool of images as a folder of images: links or copies, and a line about each in metadata.jsonl.

Images keep their paths, so that subfolders stay and no two names meet. The folder is what Hugging Face's imagefolder
reads, and a pool of this program's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.curation.source_rows import tables_by_file
from ray_itl.errors import InputError, RayItlError, RunDirectoryError
from ray_itl.io.atomic import TEMPORARY_SUFFIX, sync_folder, write_atomic
from ray_itl.io.filesystems import inaccessible, local_path
from ray_itl.sources.files.image_columns import FILE_NAME
from ray_itl.sources.parquet import ParquetSource

METADATA = "metadata.jsonl"
_PARTIAL = f".selection{TEMPORARY_SUFFIX}"
_COPIES_AT_A_TIME = 16
_COPY_BYTES = 1 << 20


def write_picked_images(folder: Path, source: ParquetSource, positions: np.ndarray, links: bool) -> None:
    """Make the folder, unless it is there: whole or not at all. What an earlier try has copied is not copied again.

    Args:
        folder: Where; its parent exists.
        source: The pool, whose files are all folders of images.
        positions: Of the picks, in order.
        links: Whether images are links to those of the pool, where these and the folder are on this machine's mounts
            and may hold links; otherwise they are copied.

    Raises:
        InputError: an image that cannot be read any more, or whose name leads out of the folder.
        RunDirectoryError: the folder cannot be written.
    """
    if folder.exists():
        return
    rows: list[dict[str, Any]] = [{} for _ in positions]
    for places, table in tables_by_file(source, positions, without_images=True):
        for place, row in zip(places, table.to_pylist(), strict=True):
            rows[place] = row
    partial = folder.with_name(_PARTIAL)
    with _writing(folder):
        partial.mkdir(exist_ok=True)
        names = list(dict.fromkeys(row[FILE_NAME] for row in rows))  # with replacement a row may be picked twice
        placer = _Placer(source, partial, links)
        with ThreadPoolExecutor(_COPIES_AT_A_TIME) as threads:
            list(threads.map(placer.place, names))
        _sync(partial)
        write_atomic(partial / METADATA, b"".join(_lines(rows)))
        partial.rename(folder)
        sync_folder(folder.parent)


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    for rank, row in enumerate(rows, start=1):
        told = {FILE_NAME: row[FILE_NAME], "rank": rank, **row}
        yield json.dumps(told, ensure_ascii=False, default=str).encode() + b"\n"


class _Placer:
    """Puts images of a pool at their places below a folder."""

    def __init__(self, source: ParquetSource, folder: Path, links: bool) -> None:
        self._root, self._folder, self._links = source.manifest.root, folder, links
        self._filesystem: pafs.FileSystem = source.filesystem

    def place(self, name: str) -> None:
        """Link or copy one image, unless it is there."""
        target = self._folder / name
        if name.startswith("/") or ".." in name.split("/"):  # as keys of object stores may be
            raise InputError(f"file {name!r} of the pool has a name that leads out of its folder: rename it")
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        path = f"{self._root.rstrip('/')}/{name}"
        local = local_path(self._filesystem, path)
        try:
            if self._links and local is not None and _linked(target, local):
                return
        except FileNotFoundError as error:
            raise _unreadable(name, error) from error
        self._copy(name, path, target)

    def _copy(self, name: str, path: str, target: Path) -> None:
        temporary = target.with_name(f".{target.name}{TEMPORARY_SUFFIX}")
        with temporary.open("wb") as file:
            try:
                with self._filesystem.open_input_stream(path) as content:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(name, error) from error
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)


def _linked(target: Path, image: str) -> bool:
    """Whether a link could be made; some filesystems have none. FileNotFoundError where it would lead nowhere."""
    os.stat(image)  # noqa: PTH116  a name may be any bytes
    target.unlink(missing_ok=True)  # one that leads nowhere any more
    with suppress(OSError):
        target.symlink_to(image)
        return True
    return False


def _sync(folder: Path) -> None:
    """Make the names below a folder durable."""
    for each in [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]:
        sync_folder(each)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write {folder}: {error}; check that {folder.parent} is writable and has free space"
        ) from error


def _unreadable(name: str, error: Exception) -> RayItlError:
    return inaccessible(name, error) or InputError(f"file {name!r} cannot be read: {error}; restore it")
