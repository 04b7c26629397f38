"""A folder of what can be made again: shared by processes, bounded, safe against crashes.

Locks are those of the operating system (flock): it releases them when a process ends, however it ends. A process holds
a shared lock on every entry that it uses and an exclusive one on an entry that it writes; the folder itself is locked
for the moment in which entries appear or vanish.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from ray_itl.errors import CacheError
from ray_itl.io.atomic import TEMPORARY_SUFFIX, sync_folder
from ray_itl.text import format_size

CACHE_VARIABLE = "RAY_ITL_CACHE"
_LOCK = "lock"
_DESCRIPTION = "entry.json"
_KEEP_FREE = 0.1
"""Share of the disk that is left to others where no limit is set."""


def default_cache_root() -> Path:
    """Return the folder for all that may be made again: $RAY_ITL_CACHE, else ~/.cache/ray_itl."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/ray_itl").expanduser().absolute()


@dataclass(frozen=True)
class CacheKey:
    """What an entry holds, in fields of subclasses: entries of equal keys are equal."""

    format: ClassVar[int] = 1
    """Rises when what is kept of the same facts becomes another thing."""

    @property
    def name(self) -> str:
        """The entry's folder name."""
        return sha256(repr((self.format, self)).encode()).hexdigest()[:32]


class EntryLease:
    """An entry that nobody removes while this object lives."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.lock = lock
        self._close = weakref.finalize(self, os.close, lock)

    def end(self) -> None:
        """Let go of the entry."""
        self._close()


class EntryCache:
    """One such folder. Every method may raise CacheError where the folder or its disk cannot be used."""

    def __init__(self, folder: Path, remedy: str, limit_bytes: int | None = None, limit_option: str = "") -> None:
        """Name the folder; it is made when first needed.

        Args:
            folder: Where.
            remedy: What a user may do where it cannot be used.
            limit_bytes: Size that entries may have together; None leaves a tenth of the disk free.
            limit_option: The option that says so.
        """
        self.folder = folder
        self._limit = limit_bytes
        self._limit_option = limit_option
        self._remedy = remedy

    def find(self, key: CacheKey) -> EntryLease | None:
        """Return the entry of a key, which counts as used now, or None."""
        with self._locked():
            return self._lease(self.folder / key.name)

    def begin(self, key: CacheKey, size: int) -> EntryLease:
        """Return a new folder for an entry that will take `size` bytes; `publish` makes it findable.

        Removes what crashed writers left, and of the entries not in use the least recently used until there is room.
        """
        with self._locked():
            self._tidy()
            self._make_room(size)
            folder = self.folder / f"{key.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
            folder.mkdir()
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
            return EntryLease(folder, lock)

    def check_room(self, size: int) -> None:
        """Raise what `begin` surely would, even if every entry could be removed; nothing is created or removed."""
        with self.guard():
            there = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
            disk, used = shutil.disk_usage(there), self._used() if there == self.folder else 0
        kept = 0 if self._limit is not None else _KEEP_FREE * disk.total
        if disk.free + used - size < kept:
            raise self._no_room(size, there)

    def make(self, key: CacheKey, size: int, write: Callable[[Path], None]) -> EntryLease:
        """Return a new entry of `size` bytes, which `write` fills; where that raises, nothing is left of it."""
        lease = self.begin(key, size)
        try:
            with self.guard():
                write(lease.folder)
            return self.publish(key, lease)
        except BaseException:
            self.discard(lease)
            raise

    def publish(self, key: CacheKey, lease: EntryLease) -> EntryLease:
        """Make a finished entry findable and return it as one in use.

        Where another process was faster with the same entry, that one is returned and this one removed.
        """
        with self._locked():
            with (lease.folder / _DESCRIPTION).open("w") as file:
                json.dump({"format": key.format, **asdict(key)}, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(lease.folder)
            if (there := self._lease(self.folder / key.name)) is not None:
                self._remove(lease)
                return there
            lease.folder.rename(self.folder / key.name)
            sync_folder(self.folder)
            fcntl.flock(lease.lock, fcntl.LOCK_SH)
            lease.folder = self.folder / key.name
            return lease

    def discard(self, lease: EntryLease) -> None:
        """Remove an entry, finished or not; others that use it keep what they have opened."""
        with self._locked():
            self._remove(lease)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only process that changes the folder."""
        with self.guard():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)

    def _lease(self, folder: Path) -> EntryLease | None:
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            return None
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(lock)
        return EntryLease(folder, lock)

    def _remove(self, lease: EntryLease) -> None:
        if lease.folder.suffix != TEMPORARY_SUFFIX:
            hidden = lease.folder.with_name(f"{lease.folder.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
            lease.folder = lease.folder.rename(hidden)
        shutil.rmtree(lease.folder)
        lease.end()

    def _entries(self, unfinished: bool) -> list[Path]:
        """Return the folders of entries, the least recently used first."""
        found = [p for p in self.folder.iterdir() if p.is_dir() and (p.suffix == TEMPORARY_SUFFIX) == unfinished]
        return sorted(found, key=_last_use)

    def _tidy(self) -> None:
        """Remove what no living process is writing."""
        for folder in self._entries(unfinished=True):
            self._remove_unused(folder)

    def _make_room(self, size: int) -> None:
        for folder in self._entries(unfinished=False):
            if self._has_room(size):
                return
            self._remove_unused(folder)
        if not self._has_room(size):
            raise self._no_room(size, self.folder)

    def _no_room(self, size: int, there: Path) -> CacheError:
        limit = "" if self._limit is None else f" within {self._limit_option}={format_size(self._limit)}"
        used = self._used() if there == self.folder else 0
        return CacheError(
            f"no room for {format_size(size)} in the cache folder {self.folder}{limit} "
            f"({format_size(shutil.disk_usage(there).free)} free on its disk, {format_size(used)} taken by entries in "
            f"use): free some space, {self._remedy}"
        )

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Raise CacheError for what the system says in a block that works on the folder."""
        try:
            yield
        except OSError as error:
            raise CacheError(
                f"the cache folder {self.folder} cannot be used ({error.strerror or error}): free some space on its "
                f"disk, {self._remedy}"
            ) from error

    def _has_room(self, size: int) -> bool:
        disk = shutil.disk_usage(self.folder)
        if self._limit is None:
            return disk.free - size >= _KEEP_FREE * disk.total
        return disk.free >= size and self._used() + size <= self._limit

    def _used(self) -> int:
        folders = [*self._entries(unfinished=False), *self._entries(unfinished=True)]
        return sum(path.stat().st_size for folder in folders for path in folder.iterdir())

    def _remove_unused(self, folder: Path) -> None:
        """Remove an entry unless a living process uses or writes it."""
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return
        self._remove(EntryLease(folder, lock))


def _last_use(folder: Path) -> float:
    try:
        return (folder / _LOCK).stat().st_mtime
    except FileNotFoundError:
        return 0.0
