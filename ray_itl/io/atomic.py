"""Files that appear whole or not at all, on a local or shared mount."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.errors import RunDirectoryError

TEMPORARY_SUFFIX = ".tmp"
_OWN_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_atomic(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `content` to `path`, so that a crash leaves either the old file or the new one.

    It goes to a hidden temporary name in the same folder, which is fsynced, renamed over `path`, and made durable by an
    fsync of the folder. If anything fails the temporary file is removed and `path` is untouched.

    Args:
        path: The file, in a folder that exists.
        content: The bytes themselves, or a function that writes them to an open binary file; what it raises that is no
            OSError passes through.

    Raises:
        RunDirectoryError: the folder is missing or cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunDirectoryError(
                f"cannot write {target}: {error}; check that {target.parent} exists, is writable and has free space"
            ) from error
        raise


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        ValueError: NaN or an infinity is in it: JSON has neither.
        RunDirectoryError: as of `write_atomic`.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    write_atomic(path, text.encode() + b"\n")


def write_parquet_table(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write `table` as one Parquet file, atomically."""
    write_atomic(path, lambda file: pq.write_table(table, file))


def remove_leftovers(folder: Path, older_than_s: float = 60.0) -> None:
    """Delete what killed writes of `write_atomic` left in a folder, unless a live one may still be at it.

    Other temporary files are not touched.

    Raises:
        OSError: the folder cannot be listed, or a file not removed.
    """
    found = [path for path in folder.glob(f".*{TEMPORARY_SUFFIX}") if _OWN_NAME.fullmatch(path.name)]
    now = _time_in(folder) if found else 0.0
    for path in found:
        with contextlib.suppress(FileNotFoundError):  # another process's, which lives
            if now - path.stat().st_mtime >= older_than_s:
                path.unlink()


def _time_in(folder: Path) -> float:
    """Return the time by the clock of whoever keeps a folder, which may be a server with another one than ours."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a full disk, on which what is left over must go above all
        return time.time()


def sync_tree(folder: Path) -> None:
    """Make all files below a folder durable, which others wrote there.

    Raises:
        RunDirectoryError: that failed.
    """
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            elif path.is_dir():
                sync_folder(path)
        sync_folder(folder)
    except OSError as error:
        raise RunDirectoryError(f"cannot keep {folder}: {error}; check that its disk is well and has space") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: that failed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network mounts cannot sync a folder, and say so with this
            raise
    finally:
        os.close(descriptor)
