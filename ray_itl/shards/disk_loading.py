"""Shards whose features are in a cache on the node's disk: found there, or read once and written there.

An entry holds the matrix of features, and ids and norms beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ray_itl.core.linalg import squared_norms
from ray_itl.core.shard import PoolShard
from ray_itl.errors import CacheError
from ray_itl.io.cache import EntryLease
from ray_itl.shards.cache import EntryKey, ShardCache
from ray_itl.shards.disk_copies import DiskRoom, copies_bytes
from ray_itl.shards.disk_features import ALIGNMENT, DiskFeatures, MatrixWriter
from ray_itl.shards.loading import RowFacts, RowRange
from ray_itl.sources.bad_rows import BadRow, BadRows
from ray_itl.sources.ids import IdKind, id_dtype, ids_from_arrow, ids_to_arrow
from ray_itl.sources.schema import which_row

MATRIX = "features.safetensors"
ROWS = "rows.parquet"
BAD_ROWS = "bad_rows.parquet"
"""Only where an entry has some; the ids of these rows are null in ROWS."""
_BATCH_ROWS = 1 << 18
_SAMPLE = 512
_ROW_BYTES = 40


@dataclass(frozen=True)
class CacheOptions:
    """Which cache a shard uses, and for which pool; small, travels to every shard."""

    pool: str
    """Fingerprint of the pool."""
    folder: str | None = None
    """None: the default of the node."""
    limit_bytes: int | None = None
    """Size of the whole folder; None leaves a tenth of the disk free."""
    copy_bytes: int = 0
    """Bytes of the copy of a row that is kept there, too; 0: copies, if there are any, are in memory."""


@dataclass(frozen=True)
class CachedRows:
    """What an entry holds of n rows."""

    features: DiskFeatures
    ids: np.ndarray
    norms: Tensor
    """n float64."""
    bad: BadRows
    """By position in the pool."""


def load_disk_shard(
    rows: RowRange,
    cache: CacheOptions,
    device: str | torch.device = "cpu",
    on_rows: Callable[[int], None] | None = None,
    bad: BadRows | None = None,
) -> PoolShard:
    """Return a shard that streams its features from disk; its entry in the cache is made unless it is there.

    An entry that is damaged is made again. Memory: 33 bytes a row, and a few MiB while reading.

    Args:
        rows: Which rows, and how they are stored.
        cache: Where.
        device: Where chunks are computed on.
        on_rows: Told the number of rows read so far.
        bad: See `RowRange.shard`.

    Raises:
        InputError: unreadable or bad rows, or a file that was replaced meanwhile.
        ConfigError: the cache's limit is smaller than the entry.
        CacheError: no room, or a disk that fails.
    """
    store = ShardCache(cache.folder, cache.limit_bytes)
    copies = copies_bytes(rows.num_rows, cache.copy_bytes)
    key = EntryKey(cache.pool, rows.start, rows.stop, rows.feature_map.key, str(rows.dtype), torch.__version__)
    found = _find(store, key, rows, device)
    if copies:  # they come once all rows have been read: that there is room for them is seen to before
        store.check_room(copies + (0 if found else entry_bytes(rows.num_rows, rows.dim, rows.dtype)))
    if found is None:
        found = _open(_make(store, key, rows, on_rows, may_be_bad=bad is not None), rows, device)
    elif on_rows is not None:
        on_rows(rows.num_rows)
    room = DiskRoom(store, key, found.features.device) if copies else None
    return rows.shard(found.features, RowFacts(found.ids, found.norms), found.bad, bad, room)


def entry_bytes(num_rows: int, dim: int, dtype: torch.dtype) -> int:
    """Return about how much disk an entry takes; ids of more than 30 bytes take more."""
    return num_rows * (dim * dtype.itemsize + _ROW_BYTES) + 4 * ALIGNMENT


def write_facts(folder: Path, facts: RowFacts, bad: BadRows, first_position: int) -> None:
    """Write ids and norms beside a matrix, and which rows are bad, of those from `first_position` on.

    Raises:
        OSError: that failed.
    """
    ids, norms = facts
    schema = pa.schema([("id", ids_to_arrow(ids[:0]).type), ("norm", pa.float64())])
    nameless = np.zeros(len(ids), dtype=bool)
    nameless[bad.positions - first_position] = True
    with pq.ParquetWriter(folder / ROWS, schema, compression="none", write_page_checksum=True) as writer:
        for first in range(0, len(ids), _BATCH_ROWS):
            part = slice(first, first + _BATCH_ROWS)
            named = pc.call_function(
                "if_else", [pa.array(nameless[part]), pa.scalar(None, schema.field(0).type), ids_to_arrow(ids[part])]
            )
            writer.write_table(pa.table([named, pa.array(norms[part].numpy())], schema=schema))
    _sync(folder / ROWS)
    if len(bad):
        names = ("position", "id", "reason")
        columns = [pa.array(values) for values in zip(*bad, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), folder / BAD_ROWS)
        _sync(folder / BAD_ROWS)


def read_entry(
    lease: EntryLease, num_rows: int, dim: int, dtype: torch.dtype, id_kind: IdKind, device: str | torch.device
) -> CachedRows:
    """Open an entry, which stays in use as long as its features live.

    Sizes are checked, and the norms of some rows are compared with those on record.

    Raises:
        CacheError: it is not whole, or the rows are not those that were written.
    """
    folder = lease.folder
    features = DiskFeatures(folder / MATRIX, num_rows, dim, dtype, device, lease)
    ids = np.empty(num_rows, dtype=id_dtype(id_kind))
    norms = torch.empty(num_rows, dtype=torch.float64)
    filled, bad = 0, BadRows()
    try:
        bad = _read_bad_rows(folder / BAD_ROWS)
        for batch in _row_batches(folder / ROWS):
            rows = slice(filled, filled + batch.num_rows)
            column = batch.column(0)
            column = column.fill_null("" if id_kind == "string" else 0) if len(bad) else column
            ids[rows] = ids_from_arrow(column, "id", id_kind, lambda i: which_row(ROWS, i))
            norms.numpy()[rows] = batch.column(1).to_numpy()
            filled += batch.num_rows
    except (OSError, pa.ArrowException, ValueError) as error:
        raise CacheError(f"cache file {folder / ROWS} is damaged ({error}): delete its folder") from error
    sample = torch.linspace(0, num_rows - 1, min(_SAMPLE, num_rows), dtype=torch.float64).long()
    found = squared_norms(features.rows(sample).cpu())
    if filled != num_rows or not torch.allclose(found, norms[sample], rtol=1e-12, atol=0.0):
        raise CacheError(f"cache folder {folder} holds other rows than it was made for: delete it")
    return CachedRows(features, ids, norms, bad)


def _read_bad_rows(path: Path) -> BadRows:
    if not path.exists():
        return BadRows()
    return BadRows([BadRow(**row) for row in pq.read_table(path).to_pylist()])


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _row_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=["id", "norm"], use_threads=False)


def _find(store: ShardCache, key: EntryKey, rows: RowRange, device: str | torch.device) -> CachedRows | None:
    lease = store.find(key)
    if lease is None:
        return None
    try:
        return _open(lease, rows, device)
    except CacheError:
        store.discard(lease)
        return None


def _open(lease: EntryLease, rows: RowRange, device: str | torch.device) -> CachedRows:
    return read_entry(lease, rows.num_rows, rows.dim, rows.dtype, rows.source.id_kind, device)


def _make(
    store: ShardCache, key: EntryKey, rows: RowRange, on_rows: Callable[[int], None] | None, may_be_bad: bool
) -> EntryLease:
    size = entry_bytes(rows.num_rows, rows.dim, rows.dtype)
    return store.make(key, size, lambda folder: _write(folder, rows, on_rows, may_be_bad))


def _write(folder: Path, rows: RowRange, on_rows: Callable[[int], None] | None, may_be_bad: bool) -> None:
    with MatrixWriter(folder / MATRIX, rows.num_rows, rows.dim, rows.dtype) as matrix:
        bad = BadRows()
        facts = rows.read(matrix.put, on_rows, bad)
        if len(bad) and not may_be_bad:
            raise bad.refusal(rows.source.locate)
        matrix.finish()
    write_facts(folder, facts, bad, rows.start)
