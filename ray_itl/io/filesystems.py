"""Any pyarrow filesystem, opened from a path or URI.

Errors of storage that may be gone at the next try are told apart from files that are missing, denied or damaged.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError, RayItlError, StorageError
from ray_itl.io.globs import split_glob
from ray_itl.io.hub_paths import is_on_hub, open_hub

_PASSING = frozenset(
    getattr(errno, name)
    for name in [
        "EIO",
        "ETIMEDOUT",
        "ENOSPC",
        "EDQUOT",
        "ESTALE",
        "EAGAIN",
        "EINTR",
        "EBUSY",
        "EMFILE",
        "ENFILE",
        "ENOMEM",
        "EPIPE",
        "ECONNRESET",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ENOTCONN",
        "ENETDOWN",
        "ENETUNREACH",
        "ENETRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EREMOTEIO",
    ]
    if hasattr(errno, name)  # not every system has all
)
_REMOTE = re.compile(
    r"AWS Error (NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT)"
    r"|HTTP status 5\d\d|curlCode: \d+"
)


def is_transient(error: BaseException) -> bool:
    """Whether an error of a filesystem or object store says that it failed, was full, or did not answer this time."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _PASSING or (error.errno is None and _REMOTE.search(str(error)) is not None)


def transient_error(what: str, error: BaseException) -> StorageError:
    """Return the error for something ("file 'a' cannot be read") that such an error prevented."""
    reason = " ".join(str(error).split())
    return StorageError(f"{what} at the moment ({reason}): once its storage is well, run the same command again")


def open_filesystem(uri: str) -> pafs.FileSystem:
    """Return the filesystem that a URI (perhaps with a glob) or path is on; the local one for ""."""
    if "://" not in uri:
        return pafs.LocalFileSystem()
    base, question, query = uri.partition("?")
    return open_uri(split_glob(base, is_uri=True)[0] + question + query, uri)[0]


def open_folder(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a folder, which need not exist yet, and its path there; wildcards mean themselves."""
    check_name(location)
    return open_uri(location, location) if "://" in location else (pafs.LocalFileSystem(), absolute(location))


def open_uri(uri: str, source: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a URI and the path there; InputError naming `source` where it cannot be opened."""
    if is_on_hub(uri):
        return open_hub(uri)
    try:
        return pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"cannot open {source!r}: {error}; check the URI and its credentials") from error


def local_path(filesystem: pafs.FileSystem, path: str) -> str | None:
    """Return what the operating system calls a path; None if it is not on a mount of this machine."""
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        path, filesystem = posixpath.join(filesystem.base_path, path.lstrip("/")), filesystem.base_fs
    return path if isinstance(filesystem, pafs.LocalFileSystem) else None


def check_name(path: str) -> None:
    """Raise InputError for a path that is not UTF-8, as no Arrow filesystem can open it."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name '{shown(path)}' is not UTF-8, so it cannot be opened: rename it") from error


def shown(path: str) -> str:
    """Return a path as it can be printed, with bytes that are not UTF-8 spelt out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def absolute(path: str) -> str:
    """Return a path of this machine with no relative part."""
    return posixpath.normpath(Path(path).expanduser().absolute().as_posix())


def unreachable(verb: str, source: str, error: Exception) -> RayItlError:
    """Return the error for something that cannot be read or listed."""
    if is_transient(error):
        return transient_error(f"cannot {verb} {source!r}", error)
    return InputError(f"cannot {verb} {source!r}: {error}; check the path and its permissions")


def inaccessible(name: str, error: Exception) -> RayItlError | None:
    """Return the error for a file that storage, and not its content, keeps from being read; None: it is the content."""
    if is_transient(error):
        return transient_error(f"file {name!r} cannot be read", error)
    if isinstance(error, FileNotFoundError):
        return InputError(f"file {name!r} is gone; restore it, or start again on the pool as it is")
    if isinstance(error, PermissionError):
        return InputError(f"file {name!r} may not be read by this user; check its permissions, and its folder's")
    return None
