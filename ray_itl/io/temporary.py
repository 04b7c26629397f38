"""Folders in the temporary directory that go with their process: by its own hand, or by that of the next one.

A process that is killed cannot remove what it made. So each such folder says whose it is: a mark inside names machine,
process and the moment in which the process started, and is locked (flock) for as long as the process lives, which also
holds where process ids mean nothing, as between containers that share a disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray_itl.errors import ConfigError
from ray_itl.io.filesystems import is_transient, transient_error
from ray_itl.io.process import state_of

PREFIX = "ray_itl-"
MARK = ".owner.json"


class TemporaryFolder:
    """A folder that bears the mark of this process."""

    def __init__(self, kind: str, where: Path | None = None) -> None:
        """Make it, after those of dead processes beside it were removed.

        Args:
            kind: What it is for, as part of its name.
            where: An existing folder; None for the temporary directory.

        Raises:
            ConfigError: nothing can be made there (names TMPDIR).
            StorageError: storage failed for the moment, or is full.
        """
        self.path = Path()
        try:
            sweep(where)
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=where))
            self._lock = os.open(self.path / MARK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            os.write(self._lock, json.dumps(_owner()).encode())
        except OSError as error:
            if self.path != Path():
                shutil.rmtree(self.path, ignore_errors=True)
            raise _unusable(where, error) from error

    def remove(self) -> None:
        """Remove it and what is in it; what cannot be removed now is left to the next process."""
        os.close(self._lock)
        _remove(self.path)

    def leave(self) -> None:
        """Leave it to be looked at until this process has ended and another sweeps."""
        os.close(self._lock)


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Yield a folder in the temporary directory that goes with the `with` block, or at the latest with this process.

    Raises:
        ConfigError, StorageError: as for `TemporaryFolder`.
    """
    folder = TemporaryFolder(kind)
    try:
        yield folder.path
    finally:
        folder.remove()


def sweep(where: Path | None = None) -> list[Path]:
    """Remove what dead processes of this user and machine left in a folder (None: the temporary directory).

    Others' folders, and those without a mark, are left alone; so is what cannot be read or removed.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    with suppress(OSError), os.scandir(where or tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False) and _is_abandoned(entry):
                _remove(Path(entry.path))
                removed.append(Path(entry.path))
    return removed


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether a folder is one of this user whose process is gone."""
    try:
        if entry.stat(follow_symlinks=False).st_uid != os.getuid():
            return False
        mark = os.open(Path(entry.path) / MARK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        owner = json.loads(os.read(mark, 4096))
        return owner["host"] == socket.gethostname() and not _lives(owner["pid"], owner["started"])
    except (OSError, ValueError, KeyError, TypeError):  # locked, thus in use; or no mark of ours
        return False
    finally:
        os.close(mark)


def _owner() -> dict[str, str | int]:
    found = state_of(os.getpid())  # None where the system does not tell
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": "" if found is None else found.started}


def _lives(pid: int, started: str) -> bool:
    """Whether a process lives that started then: ids are given anew."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, who was given the id
        return False
    found = state_of(pid)
    return started == "" if found is None else not found.has_ended and found.started == started


def _remove(folder: Path) -> None:
    """Remove a folder, its mark last: what is left of it can be removed later."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != MARK:
                path.unlink(missing_ok=True)
        if [path.name for path in folder.iterdir()] == [MARK]:
            (folder / MARK).unlink()
            folder.rmdir()


def _unusable(where: Path | None, error: OSError) -> Exception:
    place = f"the folder {where}" if where else f"the temporary directory (TMPDIR={os.environ.get('TMPDIR', '')})"
    if is_transient(error):
        return transient_error(f"{place} cannot be written", error)
    return ConfigError(
        f"{place} cannot be used ({error.strerror or error}): set TMPDIR to a folder that can be written"
    )
