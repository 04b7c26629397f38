"""The process around a shard: it loads its own rows and answers as PoolShard does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import ray
import torch
from ray import ObjectRef
from ray.exceptions import RayError

from ray_itl.core.features import FeatureMap
from ray_itl.core.ids import id_span, split_by_hash
from ray_itl.core.shard import PoolShard
from ray_itl.distributed.codec import Packed, pack, unpack
from ray_itl.distributed.journal import Recovery
from ray_itl.distributed.relay import GroupReply, PassTime, Reply, call_group
from ray_itl.errors import StaleShardError
from ray_itl.shards.disk_loading import CacheOptions, load_disk_shard
from ray_itl.shards.loading import STORAGE_DTYPES, RowRange
from ray_itl.shards.part import ShardPart
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import CostGroupColumns
from ray_itl.sources.encoding import encoding_of

T = TypeVar("T")


@dataclass(frozen=True)
class ShardSpec:
    """Which rows a shard holds, and how."""

    start: int
    stop: int
    feature_map: FeatureMap
    dtype: str
    """A key of STORAGE_DTYPES."""
    device: str
    num_threads: int
    version: int = 0
    """How often the pool was loaded before; a shard that holds rows of another version loads these in their place."""
    cache: CacheOptions | None = None
    """Where features are kept on disk; None: in memory."""
    cost_group_columns: CostGroupColumns | None = None
    """Where rows' costs and groups come from; None: none are needed."""
    part: ShardPart = field(default_factory=ShardPart)
    """What of the rows is in use."""
    part_number: int = 0
    """How often that was changed; 0: never, all are."""

    def load(self, source: PoolSource, on_rows: Callable[[int], None], bad: BadRows) -> PoolShard:
        """Return the shard; bad rows are noted."""
        rows = RowRange(
            source, self.start, self.stop, self.feature_map, STORAGE_DTYPES[self.dtype], self.cost_group_columns
        )
        if self.cache is None:
            return rows.load(self.device, on_rows, bad)
        return load_disk_shard(rows, self.cache, self.device, on_rows, bad)


@dataclass(frozen=True)
class ShardFacts:
    """What a shard knows once its rows are loaded."""

    num_usable: int
    largest_norm: float
    sum_of_norms: float
    bad: BadRows
    """Rows that must not be picked, found when the rows were loaded; of a part, those found since."""
    num_embedded: int = 0
    """Rows that were embedded, as their embeddings were not known."""


@dataclass(frozen=True)
class PartCheck:
    """The smallest id that occurs twice in one part of all ids, if any."""

    repeated: int | str | None
    complete: bool
    """False where a shard was lost before it handed over its ids."""


class ShardActor:
    """One shard in a process of its own.

    The process starts empty, also after a restart, and until `load` and `restore` or `recover` it answers
    StaleShardError. Calls run one after another; `loaded_rows` and `pid` answer at once, also during another call, and
    `relay` waits for others beside them.
    Arguments and results are packed messages (see `codec`).
    """

    def __init__(self) -> None:
        self._whole: PoolShard | None = None
        self._shard: PoolShard | None = None
        """The part of it that is in use."""
        self._bad = BadRows()
        self._version = -1
        self._part_number = 0
        self._loaded = 0
        self._group: Sequence[Any] = ()

    @ray.method(concurrency_group="health")
    def pid(self) -> int:
        """Return the number of the process."""
        return os.getpid()

    @ray.method(concurrency_group="health")
    def loaded_rows(self, version: int) -> int:
        """Return how many rows of a version are loaded so far."""
        return self._loaded if version == self._version else 0

    @ray.method(concurrency_group="relay")
    def lead(self, group: Sequence[Any]) -> None:
        """Take the actors, this one among them, that `relay` is to call."""
        self._group = group

    @ray.method(concurrency_group="relay")
    def relay(self, method: str, message: list[Any]) -> GroupReply:
        """See `relay.call_group`; the message is the only one in its list."""
        if not self._group:
            raise StaleShardError("the shard's process knows no group: it was restarted")
        return call_group(self._group, method, message[0])

    def load(self, source: PoolSource, spec: Packed) -> ShardFacts:
        """Load the rows of a ShardSpec from a source, unless they are there already, in place of any others.

        Then narrow them to the part that it names.

        Raises:
            InputError: unreadable or bad rows.
            CacheError: no room on disk, where features are to be kept there.
        """
        what: ShardSpec = unpack(spec)
        if self._whole is None or self._version != what.version:
            self._whole = self._shard = None  # old and new rows need not fit into memory together
            self._loaded, self._version, self._part_number = 0, what.version, 0
            torch.set_num_threads(what.num_threads)
            self._bad = BadRows()
            self._whole = self._shard = what.load(source, self._count_rows, self._bad)
        if self._part_number != what.part_number:
            self._bad, self._shard = BadRows(), None
            self._shard, self._part_number = what.part.of(self._whole, source, self._bad), what.part_number
        shard, encoding = self._rows, encoding_of(source)
        embedded = 0 if encoding is None else encoding.num_embedded
        return ShardFacts(shard.num_usable, shard.largest_norm, shard.sum_of_norms, self._bad, embedded)

    def restore(self, recovery: Packed) -> None:
        """Bring the rows to the state that a Recovery describes."""
        state: Recovery = unpack(recovery)
        state.apply(self._rows)

    def propose(self, request: Packed) -> Reply:
        """See `PoolShard.propose`."""
        return self._timed(lambda shard: shard.propose(unpack(request)))

    def verify(self, block: Packed) -> Reply:
        """See `PoolShard.verify`."""
        return self._timed(lambda shard: shard.verify(unpack(block)))

    def search_exactly(self, search: Packed) -> Reply:
        """See `PoolShard.contest`."""
        return self._timed(lambda shard: shard.search_exactly(unpack(search)))

    def tied_winners(self, best: float) -> Reply:
        """See `PoolShard.champions`."""
        return self._timed(lambda shard: shard.tied_winners(best))

    def rank(self, query: Packed) -> Reply:
        """See `PoolShard.rank`."""
        return self._timed(lambda shard: shard.rank(unpack(query)))

    def near(self, query: Packed) -> Reply:
        """See `PoolShard.near`."""
        return self._timed(lambda shard: shard.near(unpack(query)))

    def second_moment(self) -> Reply:
        """See `PoolShard.second_moment`."""
        return self._timed(lambda shard: shard.second_moment())

    def rivals(self, query: Packed) -> Reply:
        """See `PoolShard.rivals`."""
        return self._timed(lambda shard: shard.rivals(unpack(query)))

    def answer(self, question: Packed) -> Reply:
        """See `Pool.ask`."""
        return self._timed(lambda shard: unpack(question).answer(shard))

    def id_span(self) -> Reply:
        """See `uniqueness.id_span`; None where no row can be used."""
        return self._timed(lambda shard: id_span(shard.usable_ids) if len(shard.usable_ids) else None)

    def id_parts(self, num_parts: int) -> list[np.ndarray]:
        """Return the ids in parts by their hash: equal ids of any shard are in the same part."""
        return split_by_hash(self._rows.usable_ids, num_parts)

    def repeated_in(self, parts: list[ObjectRef]) -> Reply:
        """Return a PartCheck of parts made by `id_parts` of all shards."""
        return self._timed(lambda _: _check_parts(parts))

    def positions_of(self, row_id: int | str) -> Reply:
        """See `PoolShard.positions_of`."""
        return self._timed(lambda shard: shard.positions_of(row_id))

    @property
    def _rows(self) -> PoolShard:
        if self._shard is None:
            raise StaleShardError("the shard's process has no rows: it was restarted")
        return self._shard

    def _count_rows(self, loaded: int) -> None:
        self._loaded = loaded

    def _timed(self, call: Callable[[PoolShard], T]) -> Reply:
        shard, begin = self._rows, time.perf_counter()
        result = call(shard)
        return Reply(pack(result), (PassTime(shard.num_rows, time.perf_counter() - begin),))


def _check_parts(parts: list[ObjectRef]) -> PartCheck:
    try:
        ids = np.concatenate(ray.get(parts))
    except RayError:
        return PartCheck(None, complete=False)
    return PartCheck(id_span(ids).repeated if len(ids) else None, complete=True)
