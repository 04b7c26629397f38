"""One Parquet file: its footer and fingerprint, opening it safely, streaming its rows in bounded memory."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.filesystems import inaccessible
from ray_itl.io.text_files import text_format
from ray_itl.sources.columns import Asked, FileColumns, PoolSchema
from ray_itl.sources.delivery import unfinished
from ray_itl.sources.footer import (
    GroupClaim,
    check_amount,
    footer_bytes,
    read_claims,
)
from ray_itl.sources.manifest import FileEntry
from ray_itl.sources.tables.lance import Fragment, FragmentMetadata, Place, is_fragment, open_fragment
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.text.twin import twin_of

# A footer is data from elsewhere: these limits stop one that claims absurd sizes from taking all memory.
_MAX_THRIFT_STRING = 64 << 20
_MAX_THRIFT_CONTAINER = 1_000_000

# Column chunks are read through a buffer of this size instead of whole. Measured on one row group of
# 400 MB: 5 MiB of extra memory, against 430 MiB with Arrow's default or a memory map.
_LOCAL_BUFFER = 1 << 20
_REMOTE_BUFFER = 8 << 20  # fewer, larger requests where each costs a round trip

_BATCH_BYTES = 2 << 20
_MAX_BATCH_ROWS = 1 << 16
_MAX_THREADS = 16
_NUM_SAMPLES = 8
_SAMPLE_BYTES = 1 << 17


class Footer(NamedTuple):
    """What the footer of one file says."""

    entry: FileEntry
    claims: list[GroupClaim]
    stored: dict[str, pa.DataType]
    """Types of the columns asked for that the file has."""


def read_footer(listing: PoolListing, path: str, asked: Asked, schema: PoolSchema) -> Footer:
    """Read the footer of a file, and at most 1 MiB of its content for the fingerprint.

    Raises:
        InputError: the file is unreadable, or lacks a column (names it, and the option).
        StorageError: storage failed for the moment.
    """
    size, fingerprint, claims = _examine(listing, path, asked.embedding)
    check_amount(claims, size, path)
    with open_file(listing, listing.filesystem, path) as file:
        metadata, stored = file.metadata, file.schema_arrow
        row_groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        claimed = tuple(claim.num_rows for claim in claims)
        if min(row_groups, default=0) < 0 or sum(row_groups) != metadata.num_rows or claimed != row_groups:
            raise pa.ArrowInvalid("the footer's row counts contradict each other")
    entry = FileEntry(path, metadata.num_rows, size, fingerprint, row_groups)
    if metadata.num_rows:  # a file without rows need not have columns
        for name, option in asked.options().items():
            if name != asked.id or name in stored.names or not asked.may_lack_id:  # else all files are asked first
                FileColumns(schema, path, stored, [name], option)
    types = {name: stored.field(name).type for name in asked.options() if len(stored.get_all_field_indices(name)) == 1}
    return Footer(entry, claims, types)


def stored_schema(listing: PoolListing, path: str) -> pa.Schema:
    """Return the columns of a file; errors as of `read_footer`."""
    _examine(listing, path, "")
    with open_file(listing, listing.filesystem, path) as file:
        return file.schema_arrow


def fingerprint_file(filesystem: pafs.FileSystem, path: str) -> tuple[int, str]:
    """Return a Parquet file's size, and the SHA-256 of size, footer and 1 MiB of spread blocks, as hex.

    Raises:
        pyarrow.ArrowInvalid: the file does not end in a Parquet footer.
        OSError: it cannot be read.
    """
    size, sha256, _ = _read_ends(filesystem, path)
    return size, sha256


def fingerprint_of(place: Place, filesystem: pafs.FileSystem, path: str) -> str:
    """Return the fingerprint of a file of a pool, by its path relative to the root; InputError if it is unreadable."""
    if is_fragment(place, path):
        with open_fragment(place, filesystem, path) as fragment:
            return fragment.fingerprint
    if text_format(path):
        return twin_of(filesystem, posixpath.join(place.root, path), path).fingerprint
    try:
        return fingerprint_file(filesystem, posixpath.join(place.root, path))[1]
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def open_file(
    place: Place, filesystem: pafs.FileSystem, path: str
) -> AbstractContextManager[pq.ParquetFile | Fragment]:
    """Open a file of a pool by its path relative to the root, as `open_parquet` and `open_fragment` do."""
    if is_fragment(place, path):
        return open_fragment(place, filesystem, path)
    if text_format(path):
        return _open_twin(filesystem, posixpath.join(place.root, path), path)
    return open_parquet(filesystem, posixpath.join(place.root, path), path)


@contextmanager
def _open_twin(filesystem: pafs.FileSystem, path: str, name: str) -> Iterator[pq.ParquetFile]:
    twin = twin_of(filesystem, path, name)
    with open_parquet(pafs.LocalFileSystem(), str(twin.path), name) as file:
        yield file


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


def stream_rows(
    file: pq.ParquetFile | Fragment,
    row_groups: Sequence[int],
    first: int,
    stop: int,
    columns: Sequence[str],
    row_bytes: int,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield `(offset, batch)` covering rows `first <= row < stop`, counted over `row_groups` in order.

    `offset` is the row of the batch's first row in that counting; `row_bytes`, the decoded size of one row, sets the
    batch size. Rows before `first` are decoded and dropped, rows from `stop` on are not read. Memory: a few MiB besides
    the batch, whatever the size of a row group.

    Raises:
        pyarrow.ArrowInvalid: the file has fewer rows than its footer promises.
    """
    batch_rows = max(1, min(_BATCH_BYTES // max(1, row_bytes), _MAX_BATCH_ROWS))
    row = 0
    for batch in file.iter_batches(batch_rows, row_groups=list(row_groups), columns=list(columns), use_threads=False):
        begin, end = max(first, row), min(stop, row + batch.num_rows)
        if begin < end:
            # A name also selects what is nested below it ("a" selects "a.b"): keep what was asked for.
            yield begin, batch.slice(begin - row, end - begin).select(list(columns))
        row += batch.num_rows
        if row >= stop:
            return
    raise pa.ArrowInvalid(f"its pages hold {row} rows where its footer promises at least {stop}")


def estimate_row_bytes(metadata: pq.FileMetaData | FragmentMetadata, row_group: int) -> int:
    """Return the mean uncompressed size in bytes of one row with all its columns, from the footer.

    Not of single columns: pyarrow ends the process when a damaged footer is asked about one.
    """
    group = metadata.row_group(row_group)
    return max(1, group.total_byte_size // max(1, group.num_rows))


def unreadable(name: str, error: Exception) -> RayItlError:
    """Return the InputError (StorageError for an outage) that says why the Parquet file `name` cannot be read."""
    if (kept := inaccessible(name, error)) is not None:
        return kept
    reason = " ".join(str(error).split())
    if re.search("[de][en]crypt", reason):
        return InputError(f"file {name!r} is encrypted ({reason}); write it again without, as no keys can be given")
    return InputError(f"file {name!r} cannot be read as Parquet: {reason}; write or copy the file again")


def _read_ends(filesystem: pafs.FileSystem, path: str) -> tuple[int, str, bytes]:
    """Return size, fingerprint and footer of a file."""
    with filesystem.open_input_file(path) as file:
        size = file.size()
        footer = footer_bytes(file, size)
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        digest.update(footer)
        last = max(0, size - _SAMPLE_BYTES)
        # Evenly spread from head to tail; a file under 1 MiB is covered whole.
        for offset in sorted({index * last // (_NUM_SAMPLES - 1) for index in range(_NUM_SAMPLES)}):
            digest.update(file.read_at(min(_SAMPLE_BYTES, size - offset), offset))
    return size, digest.hexdigest(), footer


def _examine(listing: PoolListing, path: str, column: str) -> tuple[int, str, list[GroupClaim]]:
    """Return a file's size, fingerprint and what its footer claims of a column, before Arrow opens it."""
    if is_fragment(listing, path):
        with open_fragment(listing, listing.filesystem, path) as fragment:
            groups = range(fragment.metadata.num_row_groups)
            claims = [GroupClaim(fragment.metadata.row_group(group).num_rows, 0) for group in groups]
            return fragment.size_bytes, fragment.fingerprint, claims
    if text_format(path):
        try:
            twin = twin_of(listing.filesystem, listing.full_path(path), path, listing.on_text)
        except InputError as error:
            waiting = unfinished(listing, path, error)
            if waiting is None:
                raise
            raise waiting from error
        footer = _read_ends(pafs.LocalFileSystem(), str(twin.path))[2]
        return twin.size_bytes, twin.fingerprint, read_claims(footer, column)
    try:
        size, fingerprint, footer = _read_ends(listing.filesystem, listing.full_path(path))
        return size, fingerprint, read_claims(footer, column)
    except (pa.ArrowException, OSError) as error:
        raise unfinished(listing, path, error) or unreadable(path, error) from error
