"""One Parquet file: its fingerprint, and opening it safely."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.filesystems import inaccessible
from ray_itl.sources.delivery import unfinished
from ray_itl.sources.files.opened import Examined
from ray_itl.sources.footer import footer_bytes, read_claims
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.tables.place import Place

# A footer is data from elsewhere: these limits stop one that claims absurd sizes from taking all memory.
_MAX_THRIFT_STRING = 64 << 20
_MAX_THRIFT_CONTAINER = 1_000_000

# Column chunks are read through a buffer of this size instead of whole. Measured on one row group of
# 400 MB: 5 MiB of extra memory, against 430 MiB with Arrow's default or a memory map.
_LOCAL_BUFFER = 1 << 20
_REMOTE_BUFFER = 8 << 20  # fewer, larger requests where each costs a round trip

_NUM_SAMPLES = 8
_SAMPLE_BYTES = 1 << 17


class ParquetKind:
    """Parquet files (see `FileKind`)."""

    def examine(self, listing: PoolListing, path: str, column: str) -> Examined:
        """Read the footer, and at most 1 MiB of the content for the fingerprint."""
        try:
            size, fingerprint, footer = read_ends(listing.filesystem, listing.full_path(path))
            return Examined(size, fingerprint, read_claims(footer, column))
        except (pa.ArrowException, OSError) as error:
            raise unfinished(listing, path, error) or unreadable(path, error) from error

    def fingerprint(self, place: Place, filesystem: pafs.FileSystem, path: str) -> str:
        """Return the fingerprint, for which at most 1 MiB is read."""
        try:
            return fingerprint_file(filesystem, posixpath.join(place.root, path))[1]
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error

    def open(self, place: Place, filesystem: pafs.FileSystem, path: str) -> AbstractContextManager[pq.ParquetFile]:
        """See `open_parquet`."""
        return open_parquet(filesystem, posixpath.join(place.root, path), path)


def fingerprint_file(filesystem: pafs.FileSystem, path: str) -> tuple[int, str]:
    """Return a Parquet file's size, and the SHA-256 of size, footer and 1 MiB of spread blocks, as hex.

    Raises:
        pyarrow.ArrowInvalid: the file does not end in a Parquet footer.
        OSError: it cannot be read.
    """
    size, sha256, _ = read_ends(filesystem, path)
    return size, sha256


@contextmanager
def open_parquet(filesystem: pafs.FileSystem, path: str, name: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, for a block in which it is read.

    Raises:
        InputError: whatever Arrow raised inside the block (names `name`). A lack of memory, too, since a damaged file
            can ask for more than there is.
        StorageError: storage failed for the moment.
    """
    is_local = isinstance(filesystem, pafs.LocalFileSystem)
    try:
        with (
            filesystem.open_input_file(path) as source,
            pq.ParquetFile(
                source,
                pre_buffer=False,
                buffer_size=_LOCAL_BUFFER if is_local else _REMOTE_BUFFER,
                page_checksum_verification=True,
                thrift_string_size_limit=_MAX_THRIFT_STRING,
                thrift_container_size_limit=_MAX_THRIFT_CONTAINER,
            ) as file,
        ):
            yield file
    except (pa.ArrowMemoryError, MemoryError) as error:
        raise InputError(
            f"file {name!r} cannot be read in the memory there is ({error}); write it again with smaller row groups "
            "and pages, or give the process more memory"
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last from damaged column names
        raise unreadable(name, error) from error


def unreadable(name: str, error: Exception) -> RayItlError:
    """Return the InputError (StorageError for an outage) that says why the Parquet file `name` cannot be read."""
    if (kept := inaccessible(name, error)) is not None:
        return kept
    reason = " ".join(str(error).split())
    if re.search("[de][en]crypt", reason):
        return InputError(f"file {name!r} is encrypted ({reason}); write it again without, as no keys can be given")
    return InputError(f"file {name!r} cannot be read as Parquet: {reason}; write or copy the file again")


def read_ends(filesystem: pafs.FileSystem, path: str) -> tuple[int, str, bytes]:
    """Return size, fingerprint and footer of a file; errors as of `fingerprint_file`."""
    with filesystem.open_input_file(path) as file:
        size = file.size()
        footer = footer_bytes(file, size)
        return size, fingerprint_of_samples(file, size, footer), footer


def fingerprint_of_samples(file: pa.NativeFile, size: int, start: bytes = b"") -> str:
    """Return the SHA-256 of a file's size, of `start`, and of 1 MiB of blocks of it."""
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    digest.update(start)
    last = max(0, size - _SAMPLE_BYTES)
    # Evenly spread from head to tail; a file under 1 MiB is covered whole.
    for offset in sorted({index * last // (_NUM_SAMPLES - 1) for index in range(_NUM_SAMPLES)}):
        digest.update(file.read_at(min(_SAMPLE_BYTES, size - offset), offset))
    return digest.hexdigest()
