"""Shards whose features are in a cache on the node's disk: found there, or read once and written there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ray_itl.core.shard import PoolShard
from ray_itl.errors import CacheError
from ray_itl.io.cache_entry import MATRIX, CachedRows, entry_bytes, read_entry, write_facts
from ray_itl.io.loading import RowRange
from ray_itl.io.matrix_file import MatrixWriter
from ray_itl.io.shard_cache import EntryKey, EntryLease, ShardCache, unusable


@dataclass(frozen=True)
class CacheOptions:
    """Which cache a shard uses, and for which pool; small, travels to every shard."""

    pool: str
    """Fingerprint of the pool."""
    folder: str | None = None
    """None: the default of the node."""
    limit_bytes: int | None = None
    """Size of the whole folder; None leaves a tenth of the disk free."""


def load_disk_shard(
    rows: RowRange,
    cache: CacheOptions,
    device: str | torch.device = "cpu",
    on_rows: Callable[[int], None] | None = None,
) -> PoolShard:
    """Return a shard that streams its features from disk; its entry in the cache is made unless it is there.

    An entry that is damaged is made again. Memory: 33 bytes a row, and a few MiB while reading.

    Args:
        rows: Which rows, and how they are stored.
        cache: Where.
        device: Where chunks are computed on.
        on_rows: Told the number of rows read so far.

    Raises:
        InputError: unreadable or bad rows, or a file that was replaced meanwhile.
        ConfigError: the cache's limit is smaller than the entry.
        CacheError: no room, or a disk that fails.
    """
    store = ShardCache(cache.folder, cache.limit_bytes)
    key = EntryKey(cache.pool, rows.start, rows.stop, rows.feature_map.key, str(rows.dtype), torch.__version__)
    found = _find(store, key, rows, device)
    if found is None:
        found = _open(_make(store, key, rows, on_rows), rows, device)
    elif on_rows is not None:
        on_rows(rows.num_rows)
    return PoolShard(found.features, found.ids, rows.start, found.norms, rows.traits())


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


def _make(store: ShardCache, key: EntryKey, rows: RowRange, on_rows: Callable[[int], None] | None) -> EntryLease:
    lease = store.begin(key, entry_bytes(rows.num_rows, rows.dim, rows.dtype))
    try:
        _write(lease, rows, on_rows)
        return store.publish(key, lease)
    except OSError as error:
        store.discard(lease)
        raise unusable(store.folder, error) from error
    except BaseException:
        store.discard(lease)
        raise


def _write(lease: EntryLease, rows: RowRange, on_rows: Callable[[int], None] | None) -> None:
    with MatrixWriter(lease.folder / MATRIX, rows.num_rows, rows.dim, rows.dtype) as matrix:
        facts = rows.read(lambda _, features: matrix.append(features), on_rows)
        matrix.finish()
    write_facts(lease.folder, facts)
