"""What is below a folder: pool files, also those reached by links, and folders that are tables.

Nothing is passed over that may hold rows: what cannot be read, or not be named, is refused.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.io.filesystems import check_name, is_transient, local_path, shown, unreachable
from ray_itl.io.globs import Wanted
from ray_itl.io.tables import MARKERS, NAMES, TableKind, kind_of


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a listing says of a file, by which a later look tells whether it changed."""

    size: int
    changed: float | None
    """When it last did, in seconds since 1970 by the clock of whoever keeps the file; None if that is not known."""
    modified: int | None = None
    """When its content did, as it says itself, in nanoseconds; copies may keep that of their original."""


@dataclass
class Findings:
    """Files and tables below a folder, by their paths relative to it."""

    files: dict[str, Stamp] = field(default_factory=dict)
    tables: dict[str, TableKind] = field(default_factory=dict)


def walk(filesystem: pafs.FileSystem, folder: str, wanted: Wanted) -> Findings:
    """Find what `wanted` means below a folder.

    A file or folder that links lead to is found once, by its own name if it has one below the folder. Folders that are
    tables are not entered.

    Raises:
        InputError: a folder cannot be listed, a link leads nowhere, a name is not UTF-8, or a thing is no file (names
            it).
        StorageError: storage failed for the moment.
    """
    local = local_path(filesystem, folder)
    findings = _of_listing(filesystem, folder, wanted) if local is None else _LocalWalk(local, wanted).run()
    for name in [*findings.files, *findings.tables]:
        if not name.isascii():
            check_name(posixpath.join(folder, name))
    return findings


def stamp_of(filesystem: pafs.FileSystem, path: str) -> Stamp | None:
    """Look at one file; None if it is gone.

    Raises:
        OSError: it cannot be looked at.
    """
    local = local_path(filesystem, path)
    if local is None:
        info = filesystem.get_file_info(path)
        return _stamp(info) if info.type == pafs.FileType.File else None
    try:
        return _local_stamp(os.stat(local))  # noqa: PTH116  a name may be any bytes
    except FileNotFoundError:
        return None


class TableAbove(NamedTuple):
    """A table that a path is in."""

    kind: TableKind
    folder: str


def table_above(filesystem: pafs.FileSystem, path: str) -> TableAbove | None:
    """Return the outermost table of which a path is a part, itself excluded.

    Folders that may not be looked into are taken for plain ones.
    """
    above = [folder for folder in _folders_above(path) if folder]
    places = [posixpath.join(folder, marker) for folder in above for marker in MARKERS]
    try:
        there = {info.path for info in filesystem.get_file_info(places) if info.type != pafs.FileType.NotFound}
    except (pa.ArrowException, OSError):
        return None
    for folder in above:
        names = [marker for marker in MARKERS if posixpath.join(folder, marker) in there]
        kind = kind_of(names, lambda name, folder=folder: _names_in(filesystem, posixpath.join(folder, name)))
        if kind is not None:
            return TableAbove(kind, folder)
    return None


def _folders_above(path: str) -> list[str]:
    """Return the folders above a path of a filesystem, outermost first."""
    start = "/" if path.startswith("/") else ""
    parts = path.strip("/").split("/")
    return [start + "/".join(parts[:count]) for count in range(1 if not start else 0, len(parts))]


def _names_in(filesystem: pafs.FileSystem, folder: str) -> list[str]:
    try:
        return [info.base_name for info in filesystem.get_file_info(pafs.FileSelector(folder))]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return []


def _stamp(info: pafs.FileInfo) -> Stamp:
    known = info.mtime is not None
    return Stamp(info.size or 0, info.mtime.timestamp() if known else None, info.mtime_ns if known else None)


def _local_stamp(found: os.stat_result) -> Stamp:
    # A copy may set the former to that of its original; the latter is always the moment of the last change.
    return Stamp(found.st_size, max(found.st_mtime, found.st_ctime), found.st_mtime_ns)


def _of_listing(filesystem: pafs.FileSystem, folder: str, wanted: Wanted) -> Findings:
    """Find it in what a filesystem lists at once, links being its own business."""
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(folder, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise unreachable("list", folder, error) from error
    prefix = folder.rstrip("/") + "/"
    files = {info.path.removeprefix(prefix): info for info in infos if info.type == pafs.FileType.File}
    tables = _tables_among(files, wanted)
    findings = Findings(tables=tables)
    for name, info in files.items():
        if wanted.takes(name.split("/")) and not any(above in tables for above in _above(name)):
            findings.files[name] = _stamp(info)
    return findings


def _tables_among(files: Collection[str], wanted: Wanted) -> dict[str, TableKind]:
    """Return the outermost tables, from the paths of all files below a folder."""
    inside: Mapping[str, set[str]] = defaultdict(set)
    for name in files:
        for above in _above(name):
            inside[above].add(name[len(above) + 1 if above else 0 :].partition("/")[0])
    tables: dict[str, TableKind] = {}
    for place in sorted(inside):
        if any(above in tables for above in _above(place)) or not wanted.enters(_parts(place)):
            continue
        kind = kind_of(inside[place], lambda name, place=place: inside.get(posixpath.join(place, name), ()))
        if kind is not None:
            tables[place] = kind
    return tables


def _above(name: str) -> Iterator[str]:
    """Yield the folders above a relative path, from "" on."""
    parts = _parts(name)
    return ("/".join(parts[:count]) for count in range(len(parts)))


def _parts(name: str) -> list[str]:
    return name.split("/") if name else []


class _LocalWalk:
    """A walk through folders of this machine, first what is really there, then what links lead to."""

    def __init__(self, base: str, wanted: Wanted) -> None:
        self._base = base
        self._wanted = wanted
        self._findings = Findings()
        self._folders: deque[str] = deque([""])
        self._linked_folders: deque[str] = deque()
        self._linked_files: list[str] = []
        self._known: set[tuple[int, int]] = set()
        self._tables_above: dict[str, TableAbove | None] = {}

    def run(self) -> Findings:
        while self._folders or self._linked_folders:
            self._enter((self._folders or self._linked_folders).popleft())
        for name in sorted(self._linked_files):
            self._add_file(name, is_link=True)
        return self._findings

    def _enter(self, folder: str) -> None:
        place = self._look(folder)
        if place is None or not self._is_news(place):
            return
        found = self._entries(folder)
        kind = kind_of(found, lambda name: self._names(posixpath.join(folder, name)))
        if kind is not None:
            self._findings.tables[folder] = kind
            return
        for name in sorted(found):
            self._sort_in(found[name], posixpath.join(folder, name))

    def _sort_in(self, entry: os.DirEntry[str], name: str) -> None:
        parts = name.split("/")
        takes, enters = self._wanted.takes(parts), self._wanted.enters(parts)
        if not takes and not enters:
            return
        if entry.is_symlink():
            found = self._look(name)
            is_folder = found is not None and stat.S_ISDIR(found.st_mode)
            if is_folder and enters:
                self._check_link(name)
                self._linked_folders.append(name)
            elif takes and not is_folder:
                self._linked_files.append(name)
        elif entry.is_dir():
            if enters:
                self._folders.append(name)
        elif takes:
            self._add_file(name)

    def _add_file(self, name: str, is_link: bool = False) -> None:
        found = self._look(name)
        if found is None:
            return
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{self._shown(name)} is no file (a pipe, socket or device): move it out of the pool")
        if self._is_news(found) or not is_link:
            self._findings.files[name] = _local_stamp(found)
            if is_link:
                self._check_link(name)

    def _is_news(self, found: os.stat_result) -> bool:
        """Whether a file or folder was not met before, under whatever name."""
        key = (found.st_dev, found.st_ino)
        is_new = key not in self._known
        self._known.add(key)
        return is_new

    def _check_link(self, name: str) -> None:
        """Raise InputError for a link to a part of a table, whose log would not be asked which rows count."""
        target = os.path.realpath(posixpath.join(self._base, name))
        check_name(target)
        place = posixpath.dirname(target)
        if place not in self._tables_above:
            self._tables_above[place] = table_above(pafs.LocalFileSystem(), target)
        table = self._tables_above[place]
        if table is not None:
            raise InputError(
                f"{self._shown(name)} is a link into a {NAMES[table.kind]}, {table.folder!r}, whose log says which "
                "rows count: name the table instead"
            )

    def _look(self, name: str) -> os.stat_result | None:
        """Return what there is, behind links; None for what has just been removed."""
        path = posixpath.join(self._base, name)
        try:
            return os.stat(path)  # noqa: PTH116  a name may be any bytes
        except OSError as error:
            if os.path.islink(path) and not is_transient(error):  # noqa: PTH114
                raise InputError(
                    f"{self._shown(name)} is a link to '{shown(os.readlink(path))}', which leads nowhere "  # noqa: PTH115
                    f"({error.strerror}): restore what it meant, or remove it"
                ) from error
            if isinstance(error, FileNotFoundError):
                return None
            raise unreachable("read", shown(path), error) from error

    def _entries(self, folder: str) -> dict[str, os.DirEntry[str]]:
        path = posixpath.join(self._base, folder)
        try:
            with os.scandir(path) as entries:
                return {entry.name: entry for entry in entries}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise unreachable("list", shown(path), error) from error

    def _names(self, folder: str) -> Sequence[str]:
        try:
            return os.listdir(posixpath.join(self._base, folder))  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise unreachable("list", shown(posixpath.join(self._base, folder)), error) from error

    def _shown(self, name: str) -> str:
        return f"'{shown(posixpath.join(self._base, name))}'"
