"""Copies of rows on disk, beside features that are there too: made for one shard, gone with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.feature_store import RowSink
from ray_itl.io.cache import EntryLease
from ray_itl.shards.cache import EntryKey, ShardCache
from ray_itl.shards.disk_features import ALIGNMENT, DiskFeatures, MatrixWriter

COPY = "copy.safetensors"


def copies_bytes(num_rows: int, width: int) -> int:
    """Return how much disk copies of so many bytes a row take; of none, nothing."""
    return num_rows * width + 2 * ALIGNMENT if width else 0


@dataclass(frozen=True)
class DiskRoom:
    """Makes room in a cache for copies of a shard's rows (see `RoomForCopies`).

    They lie in a folder of an entry that is never published: it goes when the shard lets go of them, or with the next
    writer after a process that died. Their disk is given back when the process ends, however it does.
    """

    store: ShardCache
    key: EntryKey
    """Of the rows."""
    device: torch.device
    """Where chunks are computed on."""

    def __call__(self, width: int, dtype: torch.dtype) -> RowSink:
        """Create the file, all of its space taken.

        Raises:
            CacheError: no room, or a disk that fails.
        """
        return _DiskSink(self, width, dtype)


class _DiskSink:
    """See `RowSink`."""

    def __init__(self, room: DiskRoom, width: int, dtype: torch.dtype) -> None:
        self._room, self._shape = room, (room.key.stop - room.key.start, width, dtype)
        self._lease = room.store.begin(room.key, copies_bytes(self._shape[0], width * dtype.itemsize))
        self._path = self._lease.folder / COPY
        weakref.finalize(self, _discard, room.store, self._lease)
        with room.store.guard():
            self._writer = MatrixWriter(self._path, *self._shape)

    def fill(self, rows: slice, write: Callable[[Tensor], object]) -> None:
        _, width, dtype = self._shape
        values = torch.empty(rows.stop - rows.start, width, dtype=dtype, device=self._room.device)
        write(values)
        with self._room.store.guard():
            self._writer.put(rows, values.cpu())

    def finish(self) -> DiskFeatures:
        with self._room.store.guard(), self._writer as writer:
            writer.finish()
        # The sink lives as long as what is read, and the folder as long as the sink.
        features = DiskFeatures(self._path, *self._shape, device=self._room.device, lease=self)
        with self._room.store.guard():
            size = self._path.stat().st_size
            self._path.unlink()  # only this process, which has it open, keeps it
            with self._path.open("xb") as hollow:  # takes no disk, but counts towards the cache's limit
                hollow.truncate(size)
        return features


def _discard(store: ShardCache, lease: EntryLease) -> None:
    if lease.folder.exists():  # the whole cache may have been deleted
        store.discard(lease)
