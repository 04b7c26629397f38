"""From paths, folders, globs and URIs to the files and tables they mean, on any pyarrow filesystem."""

from __future__ import annotations

import glob
import os
import posixpath
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.io.credentials import REMEDY, holds_credentials, masked
from ray_itl.io.filesystems import absolute, check_name, local_path, open_uri, unreachable
from ray_itl.io.globs import Wanted, is_parquet, split_glob
from ray_itl.io.hub_paths import is_on_hub, pinned
from ray_itl.io.image_files import is_about_images, is_image
from ray_itl.io.tables import METADATA_SUFFIXES, TableKind
from ray_itl.io.walk import Stamp, TableAbove, stamp_of, table_above, walk

OnText = Callable[[str, int, int], None]
"""Told, of a text file that is being parsed, its name, the bytes done, and how many there are to do."""
_POOL_FILES = "*.parquet, *.jsonl, *.csv or image"


class AskedTable(NamedTuple):
    """A table that a source means, in whole or in part."""

    kind: TableKind
    folder: str
    """Where it is, on the filesystem."""
    base: str
    """The folder that the source names."""
    wanted: Wanted
    """What it means of the table's files below that."""
    metadata: str
    """The file that describes the table, where the source is that file; "" for the newest."""
    source: str

    def takes(self, path: str) -> bool:
        """Whether the source means a file of the table, by its path on the filesystem."""
        if self.metadata or (self.base == self.folder and not self.wanted.pattern):
            return True
        prefix = self.base.rstrip("/") + "/"
        if not path.startswith(prefix):
            return self.folder.startswith(prefix) and not self.wanted.pattern
        return not self.wanted.pattern or self.wanted.takes(path.removeprefix(prefix).split("/"))


@dataclass(frozen=True)
class PoolPaths:
    """Paths, and which of what they mean is wanted."""

    paths: tuple[str, ...]
    """Files, folders, globs or URIs."""
    version: int | None = None
    """Of the one table that they mean; None: the newest."""
    settle_s: float = 0.0
    """Files that changed less than so many seconds ago are passed over."""
    written_now: tuple[pafs.FileSystem, str] | None = None
    """A file that has just been written: on its filesystem, its time is the present. None: this machine's clock is."""
    on_text: OnText | None = None
    """None: nobody is told."""

    def now(self, listing: Listing) -> float:
        """Return the present, in seconds since 1970, by the clock that says when the files of a listing changed.

        It is only this machine's where nothing has been written on the same filesystem: there, the two must agree.
        """
        if self.written_now is not None:
            filesystem, path = self.written_now
            with suppress(pa.ArrowException, OSError):
                stamp = stamp_of(filesystem, path)
                if stamp is not None and stamp.changed is not None and _keeps_both(listing, filesystem, path):
                    return stamp.changed
        return time.time()


@dataclass(frozen=True)
class Listing:
    """Files of a pool: `root` joined with each of the sorted relative `paths`, on `filesystem`."""

    filesystem: pafs.FileSystem
    uri: str
    """Which filesystem it is; "" for the local one, or one that the caller handed over."""
    root: str
    paths: tuple[str, ...]
    """Files that are part of no table."""
    sources: tuple[str, ...]
    """The paths and globs that were asked for: listed again later they show which files appeared or vanished."""
    stamps: Mapping[str, Stamp]
    """What the listing said of each of `paths`."""
    asked_tables: tuple[AskedTable, ...] = ()
    """Tables, whose own logs say which files and rows they have; with them, `paths` may be empty."""
    about_images: tuple[str, ...] = ()
    """Files below the root that tell of images among `paths`, and are none of these."""

    def full_path(self, path: str) -> str:
        """Return the path on the filesystem of one of `paths`."""
        return posixpath.join(self.root, path)


def list_files(sources: Sequence[str], filesystem: pafs.FileSystem | None = None) -> Listing:
    """Find the files with rows, and tables, that `sources` mean; a file named or linked to twice counts once.

    A source is a file, a folder (searched recursively for *.parquet and *.pq or, where it has none, for *.jsonl,
    *.ndjson, *.csv and *.tsv, also .gz, .zst and .bz2 of them, or else for images, skipping names that begin with "_"
    or "."), a glob ("**" crosses folders; a leading "_" or "." must be written out), or a URI of one of these (s3://,
    gs://, hdfs://, hf://, file://). With `filesystem` given, sources are paths on it. Links are followed.

    A folder that is a table is one of `Listing.asked_tables`, whether a source is that folder, one above it, or one
    within. So is the table of an Iceberg metadata file.

    Raises:
        InputError: nothing matched, a source or what is below it is missing or unreadable, sources are on different
            filesystems, or a URI holds credentials.
        StorageError: storage failed for the moment.
    """
    if not sources:
        raise InputError("the list of paths is empty; name at least one file, folder or glob")
    for source in sources:
        check_name(source)
        if holds_credentials(source):
            raise InputError(f"the URI {masked(source)} holds credentials: {REMEDY}")
    shared = filesystem
    places = []
    for source in sources:
        own, path, pattern = _open_location(source, filesystem)
        shared = shared or own
        if not shared.equals(own):
            raise InputError(f"{source!r} is on another filesystem than {sources[0]!r}; copy the pool to one")
        places.append((source, path, pattern))
    assert shared is not None
    finder = _Finder(shared, looks_above_files=filesystem is None or local_path(filesystem, "") is not None)
    bases = [finder.find(*place) for place in places]
    root = posixpath.commonpath(bases)
    stamps = {relative_to(root, path): stamp for path, stamp in sorted(finder.files.items())}
    asked = tuple(posixpath.join(path, pattern) if pattern else path for _, path, pattern in places)
    uri = sources[0] if filesystem is None and "://" in sources[0] else ""
    about = tuple(relative_to(root, path) for path in sorted(finder.about_images))
    return Listing(shared, uri, root, tuple(sorted(stamps)), asked, stamps, tuple(finder.tables), about)


def relative_to(root: str, path: str) -> str:
    """Return a path on a filesystem relative to a folder, as `posixpath.relpath` would, for a million of them."""
    prefix = f"{root.rstrip('/')}/"
    below = path[len(prefix) :] if path.startswith(prefix) else ""
    return below if below and not below.startswith("/") else posixpath.relpath(path, root)


def _open_location(source: str, filesystem: pafs.FileSystem | None) -> tuple[pafs.FileSystem, str, str]:
    """Return a source's filesystem, its path up to any wildcard, and the glob below that path ("" if none)."""
    if filesystem is not None or "://" not in source:
        path = source if filesystem is not None else absolute(source)
        own = filesystem or pafs.LocalFileSystem()
        if _file_type(own, path, source) != pafs.FileType.NotFound:
            return own, path, ""  # a real name that happens to contain a bracket
        return own, *split_glob(path)
    uri, question, query = source.partition("?")
    base, pattern = split_glob(uri, is_uri=True)
    own, path = open_uri(base + question + query, source)
    return own, pinned(path, source) if is_on_hub(source) else path, unquote(pattern)


def _file_type(filesystem: pafs.FileSystem, path: str, source: str) -> pafs.FileType:
    try:
        return filesystem.get_file_info(path).type
    except (pa.ArrowException, OSError) as error:
        raise unreachable("read", source, error) from error


def _keeps_both(listing: Listing, filesystem: pafs.FileSystem, path: str) -> bool:
    """Whether one filesystem keeps a path and the files of a listing."""
    if not filesystem.equals(listing.filesystem):
        return False
    here, there = local_path(filesystem, path), local_path(listing.filesystem, listing.root)
    return here is None or there is None or Path(here).stat().st_dev == Path(there).stat().st_dev


def _rows_among(names: Collection[str]) -> list[str]:
    """Return those files of a folder that hold its rows: beside Parquet, text is mostly notes, and images are too."""
    parquet = [name for name in names if is_parquet(name)]
    images = [name for name in names if is_image(name)]
    texts = [name for name in names if not is_image(name) and not (images and is_about_images(name))]
    return parquet or texts or images


class _Finder:
    """Collects what sources on one filesystem mean."""

    def __init__(self, filesystem: pafs.FileSystem, *, looks_above_files: bool) -> None:
        """Start with nothing.

        Args:
            filesystem: Where the sources are.
            looks_above_files: Whether a file may be part of a table. Not on filesystems that were handed over: they
                come with lists of files from libraries that know the table.
        """
        self.files: dict[str, Stamp] = {}
        self.tables: list[AskedTable] = []
        self.about_images: set[str] = set()
        self._filesystem = filesystem
        self._looks_above_files = looks_above_files
        self._above: dict[str, TableAbove | None] = {}

    def find(self, source: str, path: str, pattern: str) -> str:
        """Add what a source means; returns the folder that its files' names start from."""
        kind = _file_type(self._filesystem, path, source)
        if kind == pafs.FileType.NotFound:
            raise InputError(f"{source!r} does not exist: nothing at {path!r}; check the path")
        if kind == pafs.FileType.Unknown:
            raise InputError(f"{source!r} is neither a file nor a folder; name one")
        if kind == pafs.FileType.File and not pattern:
            return self._find_file(source, path)
        return self._find_below(source, path.rstrip("/") or "/", Wanted(pattern))

    def _find_file(self, source: str, path: str) -> str:
        folder, name = posixpath.split(path)
        if name.endswith(METADATA_SUFFIXES) and posixpath.basename(folder) == "metadata":
            table = posixpath.dirname(folder)
            self.tables.append(AskedTable("iceberg", table, table, Wanted(""), path, source))
            return table
        path, above = self._table_above(path) if self._looks_above_files else (path, None)
        folder, name = posixpath.split(path)
        if above is not None:
            wanted = Wanted(glob.escape(name))
            self.tables.append(AskedTable(above.kind, above.folder, folder, wanted, "", source))
            return folder
        try:
            stamp = stamp_of(self._filesystem, path)
        except (pa.ArrowException, OSError) as error:
            raise unreachable("read", source, error) from error
        self.files[path] = stamp or Stamp(0, None)  # gone meanwhile, as will be noticed when it is opened
        return folder

    def _find_below(self, source: str, path: str, wanted: Wanted) -> str:
        path, above = self._table_above(path)
        if above is not None:
            self.tables.append(AskedTable(above.kind, above.folder, path, wanted, "", source))
            return path
        found = walk(self._filesystem, path, wanted)
        if not found.files and not found.tables:
            remedy = "a glob matches files, not folders" if wanted.pattern else f"it needs {_POOL_FILES} files"
            raise InputError(f"no file with rows matched {source!r}; {remedy}")
        names = list(found.files) if wanted.pattern else _rows_among(found.files)
        self.files |= {posixpath.join(path, name): found.files[name] for name in names}
        if names and is_image(names[0]) and not wanted.pattern:
            self.about_images |= {posixpath.join(path, name) for name in found.files if is_about_images(name)}
        self.tables += [
            AskedTable(kind, posixpath.join(path, name) if name else path, path, wanted, "", source)
            for name, kind in found.tables.items()
        ]
        return path

    def _table_above(self, path: str) -> tuple[str, TableAbove | None]:
        """Return the table that a path is part of, and the path within it, should links lead there."""
        real = os.path.realpath(path) if isinstance(self._filesystem, pafs.LocalFileSystem) else path
        for each in dict.fromkeys((path, real)):
            folder = posixpath.dirname(each)
            if folder not in self._above:
                self._above[folder] = table_above(self._filesystem, each)
            if self._above[folder] is not None:
                return each, self._above[folder]
        return path, None
