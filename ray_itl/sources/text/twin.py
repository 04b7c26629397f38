"""A text file's rows as a Parquet file, its twin, made once on each machine that reads them and kept in a cache.

Text has no rows to jump to and no types, and parsing it takes many times as long as reading Parquet: so it is parsed
once. Where nothing changed, a file is known by its place, size and time; what it holds is known by all of its bytes, so
that a copy of it, or the same file touched, is the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.cache import CACHE_VARIABLE, CacheKey, EntryCache, EntryLease, default_cache_root
from ray_itl.io.filesystems import inaccessible
from ray_itl.io.listing import OnText
from ray_itl.io.text_files import TextFormat, text_format
from ray_itl.io.walk import Stamp, stamp_of
from ray_itl.sources.text.delimited import delimited_batches
from ray_itl.sources.text.json_lines import json_batches

_ROWS = "rows.parquet"
_DIGEST = b"ray_itl_text_sha256"
_GROUP_ROWS = 1 << 16
_USUAL_READS = 2
"""One for the types, one for the rows."""
_BUFFER_BYTES = 1 << 20
_EXPANSION = {None: 1, "gzip": 6, "zstd": 6, "bz2": 8}
"""How much larger text usually is than its file."""
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class TwinKey(CacheKey):
    """Which text file a twin is of."""

    place: str
    """The filesystem and the path."""
    size: int
    changed: float | None
    pyarrow: str
    """Version of the library that parsed it."""


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


def twin_of(filesystem: pafs.FileSystem, path: str, name: str, on_text: OnText | None = None) -> Twin:
    """Return the twin of a text file, which is made unless it is there.

    Args:
        filesystem: Where the file is.
        path: On it.
        name: The file's, for messages.
        on_text: See `PoolPaths`.

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
            lease = store.find(key) or _make(store, key, _TextFile(filesystem, path, name, kind, stamp.size, on_text))
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
    with store.guard():
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(lock)


def _make(store: EntryCache, key: TwinKey, text: _TextFile) -> EntryLease:
    size = key.size * _EXPANSION[text.kind.compression]
    return store.make(key, size, lambda folder: _write(folder / _ROWS, text))


@dataclass
class _TextFile:
    """A text file that is read from its beginning, more than once."""

    filesystem: pafs.FileSystem
    path: str
    name: str
    kind: TextFormat
    size: int
    on_text: OnText | None
    digest: str = ""
    """SHA-256 of the text, once it has been read to its end."""
    _ended: int = 0
    """How often it has been read to its end."""

    def open(self) -> IO[bytes]:
        """Open it anew, decompressed."""
        raw = self.filesystem.open_input_file(self.path)  # streams do not tell where they are
        compression, stream = self.kind.compression, pa.BufferedInputStream(raw, _BUFFER_BYTES)
        text = stream if compression is None else pa.CompressedInputStream(stream, compression)
        return cast(IO[bytes], BufferedReader(_Watched(text, lambda: self._tell(raw), self._end), _BUFFER_BYTES))

    def _tell(self, raw: pa.NativeFile) -> None:
        total = max(_USUAL_READS, self._ended + 1) * self.size
        if self.on_text is not None:
            self.on_text(self.name, min(total, self._ended * self.size + raw.tell()), total)

    def _end(self, digest: str) -> None:
        self.digest, self._ended = digest, self._ended + 1


def _write(where: Path, text: _TextFile) -> None:
    """Write the twin; OSError where that fails, whatever is wrong with the text by its own error."""
    with _reading(text.name):
        if text.kind.syntax == "json":
            schema, batches = json_batches(text.open, text.name)
        else:
            schema, batches = delimited_batches(text.open, text.name, _DELIMITERS[text.kind.syntax])
    with pq.ParquetWriter(where, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in _read(batches, text.name):
            writer.write_batch(batch, row_group_size=_GROUP_ROWS)
        writer.add_key_value_metadata({_DIGEST.decode(): text.digest})
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


class _Watched(RawIOBase):
    """A stream of text of which somebody is told how far it is read and, at its end, the SHA-256 of its bytes."""

    def __init__(self, stream: pa.NativeFile, on_bytes: Callable[[], None], on_end: Callable[[str], None]) -> None:
        self._stream, self._on_bytes, self._on_end, self._digest = stream, on_bytes, on_end, hashlib.sha256()
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        if not self._ended:
            self._on_bytes()
        if not data and not self._ended:  # whoever reads may ask again
            self._ended = True
            self._on_end(self._digest.hexdigest())
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _unreadable(name: str, error: Exception) -> RayItlError:
    reason = " ".join(str(error).split())
    return inaccessible(name, error) or InputError(
        f"file {name!r} cannot be read: {reason}; write or copy the file again"
    )
