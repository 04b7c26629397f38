"""Building a manifest from Parquet footers; opening one file safely and streaming its rows in bounded memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.filesystems import Listing, is_transient, list_files, transient_error
from ray_itl.sources.footer import (
    MAX_DIM,
    MAX_EXCESS,
    GroupClaim,
    check_amount,
    check_dim,
    check_lengths,
    footer_bytes,
    read_claims,
    wrong_lengths,
)
from ray_itl.sources.manifest import FileEntry, Manifest
from ray_itl.sources.schema import IdKind, check_embedding_type, check_id_type, find_column, usual_dim

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
_DIM_ROWS = 256


def build_manifest(
    sources: Sequence[str],
    *,
    id_column: str,
    embedding_column: str,
    columns: Sequence[str] = (),
    filesystem: pafs.FileSystem | None = None,
) -> Manifest:
    """Read the footers of all files that `sources` mean (see `list_files`) and describe the pool.

    Files are opened by a few threads; of each, the footer and at most 1 MiB of content are read. An empty `id_column`
    makes a row's position its id; an empty `embedding_column` says that the rows have no embeddings yet.

    Raises:
        InputError: a file is unreadable, lacks a column (those in `columns` included) or differs in type or dimension
            from the one before it (names the first such file, in path order); or there are no files or no rows.
        StorageError: storage failed for the moment.
    """
    listing = list_files(sources, filesystem)
    return _manifest_of(listing, _Columns(id_column, embedding_column, tuple(columns)))


def fingerprint_file(filesystem: pafs.FileSystem, path: str) -> tuple[int, str]:
    """Return a Parquet file's size, and the SHA-256 of size, footer and 1 MiB of spread blocks, as hex.

    Raises:
        pyarrow.ArrowInvalid: the file does not end in a Parquet footer.
        OSError: it cannot be read.
    """
    size, sha256, _ = _read_ends(filesystem, path)
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


def stream_rows(
    file: pq.ParquetFile,
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


def estimate_row_bytes(metadata: pq.FileMetaData, row_group: int) -> int:
    """Return the mean uncompressed size in bytes of one row with all its columns, from the footer.

    Not of single columns: pyarrow ends the process when a damaged footer is asked about one.
    """
    group = metadata.row_group(row_group)
    return max(1, group.total_byte_size // max(1, group.num_rows))


def unreadable(name: str, error: Exception) -> RayItlError:
    """Return the InputError (StorageError for an outage) that says why the Parquet file `name` cannot be read."""
    if is_transient(error):
        return transient_error(f"file {name!r} cannot be read", error)
    if isinstance(error, FileNotFoundError):
        return InputError(f"file {name!r} is gone; restore it, or start again on the pool as it is")
    reason = " ".join(str(error).split())
    return InputError(f"file {name!r} cannot be read as Parquet: {reason}; write or copy the file again")


class _Footer(NamedTuple):
    entry: FileEntry
    id_kind: IdKind
    dtype: str
    dim: int | None
    claims: list[GroupClaim]


class _Columns(NamedTuple):
    id: str
    embedding: str
    extra: tuple[str, ...]


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


def _manifest_of(listing: Listing, columns: _Columns) -> Manifest:
    with ThreadPoolExecutor(_MAX_THREADS) as threads:
        footers = list(threads.map(lambda path: _read_footer(listing, path, columns), listing.paths))
    first = footers[0]
    for footer in footers:
        for what in ("id_kind", "dtype"):
            _check_same(what, first, footer)
    if not any(footer.entry.num_rows for footer in footers):
        raise InputError(f"the files under {listing.root!r} have no rows; name files that hold some")
    return Manifest(
        uri=listing.uri,
        root=listing.root,
        sources=listing.sources,
        files=tuple(footer.entry for footer in footers),
        id_column=columns.id,
        id_kind=first.id_kind,
        embedding_column=columns.embedding,
        dtype=first.dtype,
        dim=_common_dim(listing, footers, columns.embedding),
    )


def _common_dim(listing: Listing, footers: list[_Footer], column: str) -> int:
    if not column:
        return 0
    fixed = [footer for footer in footers if footer.dim is not None]
    for footer in fixed:
        _check_same("dim", fixed[0], footer)
    dim = fixed[0].dim if fixed else None
    dim = dim or _dim_of_lists(listing, [footer for footer in footers if footer.entry.num_rows], column)
    check_dim(dim, column)
    for footer in footers:
        check_lengths(footer.claims, dim, column, footer.entry.path)
    return dim


def _dim_of_lists(listing: Listing, footers: list[_Footer], column: str) -> int:
    """Return the dimension of lists of free length, that of most rows; all rows are checked when they are read."""
    dims: Counter[int] = Counter()
    for claim in (claim for footer in footers for claim in footer.claims if claim.num_rows):
        dim, rest = divmod(claim.num_values, claim.num_rows)
        dims[dim] += claim.num_rows if dim and not rest else 0
    dim, num_rows = dims.most_common(1)[0]
    if num_rows:
        return dim
    # Lists of other lengths, or nulls, are everywhere: some rows are read, if that cannot take much memory.
    path = footers[0].entry.path
    group, claim = next((index, claim) for index, claim in enumerate(footers[0].claims) if claim.num_rows)
    if claim.num_values > MAX_EXCESS:
        about = -(-claim.num_values // claim.num_rows)  # right where few are null, which counts as one number
        if about > MAX_DIM or claim.num_values > footers[0].entry.size_bytes:  # real ones take more than a byte each
            raise wrong_lengths(group, claim, column, path)
        return about
    with open_parquet(listing.filesystem, listing.full_path(path), path) as file:
        stop = min(claim.num_rows, _DIM_ROWS)
        batches = [batch for _, batch in stream_rows(file, [group], 0, stop, [column], _SAMPLE_BYTES << 5)]
    return usual_dim(pa.Table.from_batches(batches).column(0).combine_chunks(), column, path)


def _check_same(what: str, first: _Footer, other: _Footer) -> None:
    expected, found = getattr(first, what), getattr(other, what)
    if expected != found:
        words = {"id_kind": "ids of type", "dtype": "embeddings of type", "dim": "embeddings of dimension"}
        raise InputError(
            f"file {other.entry.path!r} has {words[what]} {found} where file {first.entry.path!r} has "
            f"{expected}; a pool needs one kind throughout, so rewrite the files that differ"
        )


def _read_footer(listing: Listing, path: str, columns: _Columns) -> _Footer:
    size, fingerprint, claims = _examine(listing, path, columns.embedding)
    check_amount(claims, size, path)
    with open_parquet(listing.filesystem, listing.full_path(path), path) as file:
        metadata, schema = file.metadata, file.schema_arrow
        row_groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        claimed = tuple(claim.num_rows for claim in claims)
        if min(row_groups, default=0) < 0 or sum(row_groups) != metadata.num_rows or claimed != row_groups:
            raise pa.ArrowInvalid("the footer's row counts contradict each other")
    id_kind: IdKind = "int"
    if columns.id:
        field = find_column(schema, columns.id, "id_column", path)
        id_kind = check_id_type(field.type, columns.id, path)
    dtype, dim = "", None
    if columns.embedding:
        field = find_column(schema, columns.embedding, "embedding_column", path)
        embedding = check_embedding_type(field.type, columns.embedding, path)
        dtype, dim = str(embedding.dtype), embedding.dim
    for column in columns.extra:
        find_column(schema, column, "columns", path)
    entry = FileEntry(path, metadata.num_rows, size, fingerprint, row_groups)
    return _Footer(entry, id_kind, dtype, dim, claims)


def _examine(listing: Listing, path: str, column: str) -> tuple[int, str, list[GroupClaim]]:
    """Return a file's size, fingerprint and what its footer claims of a column, before Arrow opens it."""
    try:
        size, fingerprint, footer = _read_ends(listing.filesystem, listing.full_path(path))
        return size, fingerprint, read_claims(footer, column)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
