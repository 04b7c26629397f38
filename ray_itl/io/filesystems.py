"""From paths, folders, globs and URIs to the Parquet files they mean, on any pyarrow filesystem.

Errors of storage that may be gone at the next try are told apart from files that are missing, denied or damaged.
"""

from __future__ import annotations

import errno
import fnmatch
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError, RayItlError, StorageError
from ray_itl.io.credentials import REMEDY, holds_credentials, masked

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
_PARQUET_SUFFIXES = (".parquet", ".pq")
_GLOB = re.compile(r"[*?\[]")
_URI_GLOB = re.compile(r"[*\[]")  # in a URI a question mark begins the query


def is_transient(error: BaseException) -> bool:
    """Whether an error of a filesystem or object store says that it failed, was full, or did not answer this time."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _PASSING or (error.errno is None and _REMOTE.search(str(error)) is not None)


def transient_error(what: str, error: BaseException) -> StorageError:
    """Return the error for something ("file 'a' cannot be read") that such an error prevented."""
    reason = " ".join(str(error).split())
    return StorageError(f"{what} at the moment ({reason}): once its storage is well, run the same command again")


@dataclass(frozen=True)
class Listing:
    """Files of a pool: `root` joined with each of the sorted relative `paths`, on `filesystem`."""

    filesystem: pafs.FileSystem
    uri: str
    """Which filesystem it is; "" for the local one, or one that the caller handed over."""
    root: str
    paths: tuple[str, ...]
    sources: tuple[str, ...]
    """The paths and globs that were asked for: listed again later they show which files appeared or vanished."""

    def full_path(self, path: str) -> str:
        """Return the path on the filesystem of one of `paths`."""
        return posixpath.join(self.root, path)


def list_files(sources: Sequence[str], filesystem: pafs.FileSystem | None = None) -> Listing:
    """Find the Parquet files that `sources` mean; a file named twice counts once.

    A source is a file, a folder (searched recursively for *.parquet and *.pq, skipping names that begin with "_" or
    "."), a glob ("**" crosses folders; a leading "_" or "." must be written out), or a URI of one of these (s3://,
    gs://, hdfs://, file://). With `filesystem` given, sources are paths on it.

    Raises:
        InputError: nothing matched, a source is missing or unreadable, sources are on different filesystems, or a URI
            holds credentials.
        StorageError: storage failed for the moment.
    """
    if not sources:
        raise InputError("the list of paths is empty; name at least one Parquet file, folder or glob")
    for source in sources:
        if holds_credentials(source):
            raise InputError(f"the URI {masked(source)} holds credentials: {REMEDY}")
    found: set[str] = set()
    bases: list[str] = []
    asked: list[str] = []
    shared = filesystem
    for source in sources:
        own, path, pattern = _open_location(source, filesystem)
        shared = shared or own
        if not shared.equals(own):
            raise InputError(f"{source!r} is on another filesystem than {sources[0]!r}; copy the pool to one")
        base, paths = _expand(own, path, pattern, source)
        bases.append(base)
        asked.append(posixpath.join(path, pattern) if pattern else path)
        found.update(paths)
    assert shared is not None
    root = posixpath.commonpath(bases)
    relative = tuple(sorted(posixpath.relpath(path, root) for path in found))
    uri = sources[0] if filesystem is None and "://" in sources[0] else ""
    return Listing(shared, uri, root, relative, tuple(asked))


def open_filesystem(uri: str) -> pafs.FileSystem:
    """Return the filesystem that a URI or path is on; the local one for ""."""
    return _open_location(uri, None)[0] if uri else pafs.LocalFileSystem()


def open_folder(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a folder, which need not exist yet, and its path there; wildcards mean themselves."""
    if "://" not in location:
        return pafs.LocalFileSystem(), _absolute(location)
    try:
        return pafs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"cannot open {location!r}: {error}; check the URI and its credentials") from error


def _open_location(source: str, filesystem: pafs.FileSystem | None) -> tuple[pafs.FileSystem, str, str]:
    """Return a source's filesystem, its path up to any wildcard, and the glob below that path ("" if none)."""
    if filesystem is not None or "://" not in source:
        path = source if filesystem is not None else _absolute(source)
        own = filesystem or pafs.LocalFileSystem()
        if _file_type(own, path, source) != pafs.FileType.NotFound:
            return own, path, ""  # a real name that happens to contain a bracket
        return own, *_split_glob(path, _GLOB)
    uri, question, query = source.partition("?")
    base, pattern = _split_glob(uri, _URI_GLOB)
    try:
        own, path = pafs.FileSystem.from_uri(base + question + query)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"cannot open {source!r}: {error}; check the URI and its credentials") from error
    return own, path, unquote(pattern)


def _absolute(path: str) -> str:
    return posixpath.normpath(Path(path).expanduser().absolute().as_posix())


def _split_glob(path: str, wildcard: re.Pattern[str]) -> tuple[str, str]:
    hit = wildcard.search(path)
    if hit is None:
        return path, ""
    cut = path.rfind("/", 0, hit.start())
    return path[: max(cut, 0)] or "/", path[cut + 1 :]


def _file_type(filesystem: pafs.FileSystem, path: str, source: str) -> pafs.FileType:
    try:
        return filesystem.get_file_info(path).type
    except (pa.ArrowException, OSError) as error:
        raise _unreachable("read", source, error) from error


def _unreachable(verb: str, source: str, error: Exception) -> RayItlError:
    if is_transient(error):
        return transient_error(f"cannot {verb} {source!r}", error)
    return InputError(f"cannot {verb} {source!r}: {error}; check the path and its permissions")


def _expand(filesystem: pafs.FileSystem, path: str, pattern: str, source: str) -> tuple[str, list[str]]:
    """Return the folder that relative names start from, and the full paths of the files."""
    kind = _file_type(filesystem, path, source)
    if kind == pafs.FileType.NotFound:
        raise InputError(f"{source!r} does not exist: nothing at {path!r}; check the path")
    if kind == pafs.FileType.File and not pattern:
        return posixpath.dirname(path), [path]
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise _unreachable("list", source, error) from error
    prefix = path.rstrip("/") + "/"
    names = [info.path.removeprefix(prefix) for info in infos if info.type == pafs.FileType.File]
    if pattern:
        wanted = pattern.split("/")
        names = [name for name in names if _matches(name.split("/"), wanted)]
    else:
        names = [name for name in names if _is_pool_file(name)]
    if not names:
        remedy = "a glob matches files, not folders" if pattern else "it needs *.parquet or *.pq files"
        raise InputError(f"no Parquet file matched {source!r}; {remedy}")
    return path.rstrip("/") or "/", [prefix + name for name in names]


def _is_pool_file(name: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
    return not hidden and name.lower().endswith(_PARQUET_SUFFIXES)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Match path segments against glob segments, "**" standing for any number of visible segments."""
    if not parts:
        return all(segment == "**" for segment in pattern)
    if not pattern:
        return False
    hidden = parts[0].startswith(("_", "."))
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not hidden and _matches(parts[1:], pattern))
    if hidden and not pattern[0].startswith(parts[0][0]):
        return False
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
