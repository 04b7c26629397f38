"""The log of a state directory: who may work on it, and which ticks were published, in a sequence of small files.

Files may be on any filesystem that pyarrow knows; each appears whole or not at all.

Every entry is a file of its own number. A number can be taken once, so two processes never both add the same entry:
a tick that works claims number k, and publishes by adding k + 1. Whoever takes over from a tick that died adds a claim
at k + 1; the dead one, should it wake up, then finds its number taken. Entries are never deleted.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.io.atomic import TEMPORARY_SUFFIX, remove_leftovers, sync_folder, write_atomic
from ray_itl.io.filesystems import open_folder

SETTLE_S = 2.0
"""How long a writer waits before it reads back whether a file it created is its own, where that is not one step."""
_COPY_BYTES = 1 << 23
_LEFTOVER_S = 3600.0
_WITHOUT_FOLDERS = ("s3", "gcs", "abfs")


class UnusableStoreError(RunDirectoryError, ConfigError):
    """The location cannot be opened at all: trying again will not help."""


class StateStore:
    """Files under one folder, named relative to it.

    On a local or shared mount a file is fsynced and renamed into place, and `create` is one atomic step. Elsewhere a
    file is written in one stream, which object stores (S3, GCS, Azure) show only once it is complete; pyarrow has no
    conditional write for them, so `create` looks, writes, waits `SETTLE_S` and reads back: of several writers at once
    the last one wins and the others notice, unless one of them stalls for longer than that between look and write.
    """

    def __init__(self, location: str) -> None:
        """Name the folder by a path or URI; nothing is created or read yet. UnusableStoreError if it means nothing."""
        try:
            self._filesystem, self._root = open_folder(location)
        except InputError as error:
            raise UnusableStoreError(f"state.dir: {error}") from error
        self.location = location

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a mount of this machine, where `create` is one atomic step."""
        return isinstance(self._filesystem, pafs.LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the path of a file on its filesystem; RunDirectoryError for a name that leaves the folder."""
        if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
            raise RunDirectoryError(f"{name!r} is not a name within {self.location}: the state was tampered with")
        return posixpath.join(self._root, name)

    def place(self, name: str) -> tuple[pafs.FileSystem, str]:
        """Return the filesystem of a file, and its path there."""
        return self._filesystem, self.path(name)

    def read(self, name: str) -> bytes | None:
        """Return a file's contents, or None if there is no such file."""
        with self._explained("read", name):
            if self._filesystem.get_file_info(self.path(name)).type != pafs.FileType.File:
                return None
            with self._filesystem.open_input_file(self.path(name)) as file:
                return file.read()

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a Parquet file; RunDirectoryError if it is missing or damaged."""
        with self._explained("read", name), self._filesystem.open_input_file(self.path(name)) as file:
            return pq.read_table(file, columns=None if columns is None else list(columns))

    def names(self, folder: str) -> list[str]:
        """Return the names of what is in a folder, sorted, without leftovers of interrupted writes."""
        with self._explained("list", folder):
            found = self._local_names(folder) if self.is_local else self._remote_names(folder)
        return sorted(name for name in found if not name.endswith(TEMPORARY_SUFFIX))

    def _local_names(self, folder: str) -> list[str]:
        """List a folder, but for names that are not UTF-8: nothing of a state has one, and Arrow stumbles over them."""
        try:
            found = os.listdir(os.fsencode(self.path(folder)))  # noqa: PTH208
        except FileNotFoundError:
            return []
        return [name.decode() for name in found if name.decode("utf-8", "ignore").encode() == name]

    def _remote_names(self, folder: str) -> list[str]:
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        return [info.base_name for info in self._filesystem.get_file_info(selector)]

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in place of any of that name."""
        with self._explained("write", name):
            self._make_folder(name)
            if self.is_local:
                write_atomic(self.path(name), content)
                return
            with self._filesystem.open_output_stream(self.path(name)) as file:
                file.write(content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless one of that name is there; returns whether this call did.

        `content` must be like no other writer's. What happens when several try at once is in the class's docstring.
        """
        with self._explained("create", name):
            if self.is_local:
                self._make_folder(name)
                return _link(Path(self.path(name)), content)
            if self.read(name) is not None:
                return False
            self.write(name, content)
            time.sleep(SETTLE_S)
            return self.read(name) == content

    def upload(self, folder: Path, name: str) -> None:
        """Copy all files under a local folder to a folder here."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = f"{name}/{path.relative_to(folder).as_posix()}"
            with self._explained("write", target):
                self._make_folder(target)
                with path.open("rb") as source, self._filesystem.open_output_stream(self.path(target)) as file:
                    while chunk := source.read(_COPY_BYTES):
                        file.write(chunk)
                if self.is_local:
                    _sync(Path(self.path(target)))

    def remove_folder(self, name: str) -> None:
        """Delete a folder with all in it."""
        with self._explained("delete", name):
            self._filesystem.delete_dir(self.path(name))

    def remove_leftovers(self, folder: str) -> None:
        """Delete what writes into a folder on a mount left when their process was killed, once it is an hour old."""
        if not self.is_local:
            return
        with self._explained("tidy", folder or "the folder"):
            remove_leftovers(Path(self.path(folder) if folder else self._root), _LEFTOVER_S)

    def _make_folder(self, name: str) -> None:
        if self._filesystem.type_name not in _WITHOUT_FOLDERS:
            self._filesystem.create_dir(posixpath.dirname(self.path(name)), recursive=True)

    @contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise RunDirectoryError(
                f"cannot {verb} {name} in {self.location}: {error}; check that it exists, that access is granted and "
                "that there is free space"
            ) from error


def _link(path: Path, content: bytes) -> bool:
    """Create a file that is whole from the first moment; False if the name is taken."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    write_atomic(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP):
            raise OSError(
                error.errno, "this filesystem has no hard links, by which ticks exclude each other"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _sync(path: Path) -> None:
    """Make a file and its name durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


FORMAT_VERSION = 1
FOLDER = "log"
_NAME = re.compile(r"(\d{8})\.json")
_THREADS = 16
Kind = Literal["claim", "tick"]


@dataclass(frozen=True)
class Entry:
    """One entry: a claim to work, or a published tick."""

    number: int
    kind: Kind
    content: Mapping[str, Any]


class TickLog:
    """The entries under `log/` of a store. All reads go to the files: other processes add entries meanwhile."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._ticks: dict[int, Entry | None] = {}

    @property
    def store(self) -> StateStore:
        """Where the log is."""
        return self._store

    def last(self) -> Entry | None:
        """Return the entry of the largest number, or None; RunDirectoryError for a damaged one."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    def ticks(self) -> list[Entry]:
        """Return the published ticks, first to last. What was read before is not read again: a tick never changes."""
        new = [number for number in self._numbers() if number not in self._ticks]
        with ThreadPoolExecutor(_THREADS) as threads:
            for entry in threads.map(self._read, new):
                self._ticks[entry.number] = entry if entry.kind == "tick" else None
        return [entry for _, entry in sorted(self._ticks.items()) if entry is not None]

    def add(self, number: int, kind: Kind, content: Mapping[str, Any]) -> bool:
        """Add an entry unless its number is taken; returns whether it was added (see `StateStore.create`)."""
        return self._store.create(_name(number), _text(kind, content))

    def renew(self, number: int, content: Mapping[str, Any]) -> None:
        """Rewrite a claim, which only its owner may."""
        self._store.write(_name(number), _text("claim", content))

    def has(self, number: int) -> bool:
        """Whether a number is taken."""
        return self._store.read(_name(number)) is not None

    def place(self, number: int) -> tuple[pafs.FileSystem, str]:
        """Return where the entry of a number is."""
        return self._store.place(_name(number))

    def _numbers(self) -> Sequence[int]:
        return [int(found[1]) for name in self._store.names(FOLDER) if (found := _NAME.fullmatch(name))]

    def _read(self, number: int) -> Entry:
        where = f"{_name(number)} in {self._store.location}"
        try:
            value = json.loads(self._store.read(_name(number)) or b"")
            version, kind, content = value["format"], value["kind"], value["content"]
        except (ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(f"{where} is damaged ({error}): restore it from a backup") from error
        if version != FORMAT_VERSION or kind not in ("claim", "tick") or not isinstance(content, dict):
            raise RunDirectoryError(f"{where} is of another version of ray_itl: use the version that wrote it")
        return Entry(number, cast(Kind, kind), content)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _text(kind: Kind, content: Mapping[str, Any]) -> bytes:
    value = {"format": FORMAT_VERSION, "kind": kind, "content": dict(content)}
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"
