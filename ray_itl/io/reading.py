"""Opening one Parquet file safely and streaming its rows in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.outages import may_pass, outage

# A footer is data from elsewhere: these limits stop one that claims absurd sizes from taking all memory.
_MAX_THRIFT_STRING = 64 << 20
_MAX_THRIFT_CONTAINER = 1_000_000

# Column chunks are read through a buffer of this size instead of whole. Measured on one row group of
# 400 MB: 5 MiB of extra memory, against 430 MiB with Arrow's default or a memory map.
_LOCAL_BUFFER = 1 << 20
_REMOTE_BUFFER = 8 << 20  # fewer, larger requests where each costs a round trip

_BATCH_BYTES = 2 << 20
_MAX_BATCH_ROWS = 1 << 16


@contextmanager
def open_parquet(filesystem: pafs.FileSystem, path: str, name: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; whatever Arrow raises inside the block becomes an InputError naming `name`.

    Where storage failed for the moment it is a StorageError. A lack of memory is an InputError, since a damaged file,
    too, can ask for more than there is.
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
    if may_pass(error):
        return outage(f"file {name!r} cannot be read", error)
    if isinstance(error, FileNotFoundError):
        return InputError(f"file {name!r} is gone; restore it, or start again on the pool as it is")
    reason = " ".join(str(error).split())
    return InputError(f"file {name!r} cannot be read as Parquet: {reason}; write or copy the file again")


def stream_rows(
    file: pq.ParquetFile,
    row_groups: Sequence[int],
    first: int,
    stop: int,
    columns: Sequence[str],
    row_bytes: int,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield `(offset, batch)` covering rows `first <= row < stop`, counted over `row_groups` in order.

    `offset` is the row of the batch's first row in that counting; `row_bytes`, the decoded size of one
    row, sets the batch size. Rows before `first` are decoded and dropped, rows from `stop` on are not
    read. Memory: a few MiB besides the batch, whatever the size of a row group.
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
