"""A text file's rows as a Parquet file, its twin, made once on each machine that reads them and kept in a cache.

Text has no rows to jump to and no types, and parsing it takes many times as long as reading Parquet: so it is parsed
once. Where nothing changed, a file is known by its place, size and time; what it holds is known by all of its bytes, so
that a copy of it, or the same file touched, is the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError
from ray_itl.io.cache import CACHE_VARIABLE, EntryCache, EntryLease, default_cache_root
from ray_itl.io.filesystems import is_transient, transient_error
from ray_itl.io.text_files import TextFormat, text_format
from ray_itl.io.walk import Stamp, stamp_of
from ray_itl.sources.text.delimited import delimited_batches
from ray_itl.sources.text.json_lines import json_batches

_FORMAT = 1
"""Of twins: rises when the same file would become other rows."""
_ROWS = "rows.parquet"
_DIGEST = b"ray_itl_text_sha256"
_GROUP_ROWS = 1 << 16
_BUFFER_BYTES = 1 << 20
_EXPANSION = {None: 1, "gzip": 6, "zstd": 6, "bz2": 8}
"""How much larger text usually is than its file."""
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class TwinKey:
    """Which text file a twin is of."""

    place: str
    """The filesystem and the path."""
    size: int
    changed: float | None
    pyarrow: str
    """Version of the library that parsed it."""

    @property
    def name(self) -> str:
        """The entry's folder name."""
        return hashlib.sha256(repr((_FORMAT, self)).encode()).hexdigest()[:32]

    def facts(self) -> dict[str, object]:
        """What is written down of it."""
        return asdict(self)


@dataclass(frozen=True)
class Twin:
    """A twin in use: nobody removes it while this object lives."""

    path: Path
    lease: EntryLease
    size_bytes: int
    """Of the text file."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text."""
        return pq.read_metadata(self.path).metadata[_DIGEST].decode()


def twin_of(filesystem: pafs.FileSystem, path: str, name: str) -> Twin:
    """Return the twin of a text file, which is made unless it is there.

    Args:
        filesystem: Where the file is.
        path: On it.
        name: The file's, for messages.

    Raises:
        InputError: the file cannot be read, or is not what its name says (names it, and the row).
        StorageError: storage failed for the moment.
        CacheError: there is no room for the twin.
    """
    kind = text_format(path)
    assert kind is not None, "the file's name says that it is text"
    store = _cache()
    stamp = _stamp(filesystem, path, name)
    key = TwinKey(f"{filesystem.type_name}:{path}", stamp.size, stamp.changed, pa.__version__)
    lease = store.find(key)
    if lease is None:
        with _one_at_a_time(store, key):
            lease = store.find(key) or _make(store, key, filesystem, path, name, kind)
            if _stamp(filesystem, path, name) != stamp:
                raise InputError(f"file {name!r} was changed while it was read; run the same command again")
    return Twin(lease.folder / _ROWS, lease, stamp.size)


def _cache() -> EntryCache:
    remedy = f"or set {CACHE_VARIABLE} to a folder on a larger disk"
    return EntryCache(default_cache_root() / "text", remedy)


def _stamp(filesystem: pafs.FileSystem, path: str, name: str) -> Stamp:
    try:
        stamp = stamp_of(filesystem, path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, error) from error
    if stamp is None:
        raise _unreadable(name, FileNotFoundError(path))
    return stamp


@contextmanager
def _one_at_a_time(store: EntryCache, key: TwinKey) -> Iterator[None]:
    """Let one process of this machine parse a file while others that want it wait."""
    path = store.folder / f"{key.name}.making"
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise store.unusable(error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(lock)


def _make(
    store: EntryCache, key: TwinKey, filesystem: pafs.FileSystem, path: str, name: str, kind: TextFormat
) -> EntryLease:
    lease = store.begin(key, key.size * _EXPANSION[kind.compression])
    try:
        _write(lease.folder / _ROWS, filesystem, path, name, kind)
        return store.publish(key, lease)
    except OSError as error:
        store.discard(lease)
        raise store.unusable(error) from error
    except BaseException:
        store.discard(lease)
        raise


def _write(where: Path, filesystem: pafs.FileSystem, path: str, name: str, kind: TextFormat) -> None:
    """Write the twin; OSError where that fails, whatever is wrong with the text by its own error."""
    digests: list[str] = []

    def open_text() -> IO[bytes]:
        stream = filesystem.open_input_stream(path, compression=kind.compression, buffer_size=_BUFFER_BYTES)
        return cast(IO[bytes], BufferedReader(_Hashed(stream, digests), _BUFFER_BYTES))

    with _reading(name):
        if kind.syntax == "json":
            schema, batches = json_batches(open_text, name)
        else:
            schema, batches = delimited_batches(open_text, name, _DELIMITERS[kind.syntax])
    with pq.ParquetWriter(where, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in _read(batches, name):
            writer.write_batch(batch, row_group_size=_GROUP_ROWS)
        writer.add_key_value_metadata({_DIGEST.decode(): digests[-1]})
    with where.open("rb") as file:
        os.fsync(file.fileno())


def _read(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    while True:
        with _reading(name):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from error


class _Hashed(RawIOBase):
    """A stream that notes the SHA-256 of its bytes once it has been read to its end."""

    def __init__(self, stream: pa.NativeFile, digests: list[str]) -> None:
        self._stream, self._digests, self._digest = stream, digests, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        if not data:
            self._digests.append(self._digest.hexdigest())
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _unreadable(name: str, error: Exception) -> Exception:
    if is_transient(error):
        return transient_error(f"file {name!r} cannot be read", error)
    if isinstance(error, FileNotFoundError):
        return InputError(f"file {name!r} is gone; restore it, or start again on the pool as it is")
    if isinstance(error, PermissionError):
        return InputError(f"file {name!r} may not be read by this user; check its permissions, and its folder's")
    reason = " ".join(str(error).split())
    return InputError(f"file {name!r} cannot be read: {reason}; write or copy the file again")
