"""RayPool: the Pool protocol over shards in processes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_itl.cluster.room import RoomAsked
from ray_itl.cluster.waiting import RoomWatch, Tell, await_room
from ray_itl.core.features import FeatureMap
from ray_itl.core.ids import IdSpan, spans_overlap
from ray_itl.core.messages import (
    Block,
    BlockReport,
    ExactSearch,
    Request,
    RivalQuery,
    Rivals,
    RowBatch,
    ScoreSpec,
    merge_batches,
    merge_rivals,
)
from ray_itl.core.near_rows import NearQuery, NearRows, merge_near
from ray_itl.core.pool import Question, T, block_per_shard, mean_of_norms, merge_reports, request_per_shard
from ray_itl.core.ranking import RankedRows, RankQuery, merge_ranked
from ray_itl.distributed.codec import unpack
from ray_itl.distributed.journal import Journal, Recovery
from ray_itl.distributed.placement import ShardPlan
from ray_itl.distributed.policy import RecoveryPolicy
from ray_itl.distributed.relay import MERGES, PassTime, Reply
from ray_itl.distributed.shard_actor import ShardActor, ShardFacts, ShardSpec
from ray_itl.distributed.shard_group import ShardGroup, ShardMember, put
from ray_itl.errors import ConfigError, ShardError
from ray_itl.shards.disk_loading import CacheOptions
from ray_itl.shards.part import PoolPart
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import CostGroupColumns
from ray_itl.sources.manifest import plan_shards

REMEDY = "lower cluster.num_shards, cluster.cpus_per_shard or cluster.gpus_per_shard, or raise the deadline"


class RayPool:
    """A pool over Ray actors, each with a contiguous part of the rows; picks are those of any other Pool.

    Needs a connection to Ray. Every method makes one call to each shard, and rebuilds shards that were lost before
    it returns. An error ends the pool: its processes, and only those, are killed. Use it as a context manager.
    """

    def __init__(
        self,
        source: PoolSource,
        feature_map: FeatureMap,
        plan: ShardPlan,
        policy: RecoveryPolicy | None = None,
        *,
        notify: Callable[[str], None] | None = None,
        on_pass: Callable[[list[PassTime]], None] | None = None,
        cache: CacheOptions | None = None,
        cost_group_columns: CostGroupColumns | None = None,
        tell: Tell = lambda _: None,
        actor_class: type[ShardActor] = ShardActor,
    ) -> None:
        """Prepare the shards; `load` starts them.

        Args:
            source: Where the rows are; every shard opens its own part.
            feature_map: Applied to every row.
            plan: How many shards, and what each uses; a pool of fewer rows has one shard for each row.
            policy: When to give up on lost shards.
            notify: Told, in a line, about every shard that was lost.
            on_pass: Told, after each pass over the rows, the rows and seconds of every shard.
            cache: Where shards keep features, if the plan says on disk.
            cost_group_columns: Where rows' costs and groups come from; None: none are needed.
            tell: Told, in a line, that shards wait for room; None: no longer.
            actor_class: What runs in the processes.
        """
        assert (cache is not None) == plan.on_disk, "features on disk are those of Parquet files"
        self._cache = cache
        self._cost_group_columns = cost_group_columns
        self._source = source
        self._feature_map = feature_map
        self._plan = plan
        self._dim = feature_map.dim(source.dim)
        self._journal = Journal()
        self._on_pass = on_pass
        self._memory = plan.memory(-(-source.num_rows // plan.num_shards), self._dim)
        members = self._members(source)
        self._num_shards = len(members)
        self._policy = policy or RecoveryPolicy()
        deadline_s, needs = self._policy.restart_deadline_s, members[0].options
        asked = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], "memory": needs["memory"]}
        self._asked = RoomAsked("shard", len(members), asked, "cluster.restart_deadline_s", deadline_s)
        self._tell = tell
        self._crew = ShardGroup(
            source,
            members,
            self._policy,
            lambda: self._journal.recovery(),
            notify or (lambda _: None),
            RoomWatch(self._asked, tell, REMEDY),
            actor_class,
        )
        self._facts: list[ShardFacts] = []
        self._num_parts = 0

    @property
    def has_room_for_copies(self) -> bool:
        """Whether rows may be screened by copies beside them."""
        return self._plan.copy_bytes > 0

    @property
    def on_disk(self) -> bool:
        """Whether shards keep features on disk."""
        return self._plan.on_disk

    def load(self, on_rows: Callable[[int], None] | None = None, bad: BadRows | None = None) -> None:
        """Start the shards and load all rows; to be called once, before anything else.

        Args:
            on_rows: Told about once a second how many rows are loaded so far.
            bad: Where bad rows are noted, for a caller that excludes them from what is picked. None: there may be none.

        Raises:
            InputError: unreadable or bad rows, by file and row: all bad ones that there are.
            NoRoomError: others hold what the shards need until the deadline.
            ConfigError: the cluster is too small, and did not grow until then.
            ShardError: processes that do not come up, or keep dying.
        """
        await_room(self._asked, self._tell, REMEDY)
        self._settle(self._crew.start(on_rows), bad)

    def reload(
        self, source: PoolSource, on_rows: Callable[[int], None] | None = None, bad: BadRows | None = None
    ) -> None:
        """Let every shard load the rows of another source in place of its own; call `restore` before anything else.

        The processes live on. A shard that is lost, now or later, is rebuilt from the new source.

        Args:
            source: Where the rows are from now on, whatever their number and dimension, as long as they fit.
            on_rows: Told about once a second how many rows are loaded so far.
            bad: As for `load`.

        Raises:
            InputError: unreadable or bad rows, by file and row.
            ConfigError: fewer rows than shards, or more than fit the memory that the shards reserved, or features on
                disk; the pool stays as it was.
            ShardError: the pool was not loaded before, or processes that keep dying.
        """
        if self._cache is not None:
            raise ConfigError(
                "a pool with pool.storage=disk holds one source: set pool.storage=memory, or open another"
            )
        members, dim = self._members(source), self._feature_map.dim(source.dim)
        if len(members) != self._num_shards:
            raise ConfigError(
                f"{source.num_rows} rows cannot be split over the {self._num_shards} shards of this pool: lower "
                "cluster.num_shards"
            )
        need = self._plan.memory(-(-source.num_rows // self._num_shards), dim)
        if need > self._memory:
            raise ConfigError(
                f"{source.num_rows} rows of {dim} features need {need} bytes a shard, which reserved {self._memory}: "
                "begin with the largest pool, or raise cluster.num_shards"
            )
        self._journal = Journal()
        self._source, self._dim = source, dim
        self._settle(self._crew.reload(source, members, on_rows), bad)

    def narrow(self, source: PoolSource, part: PoolPart, bad: BadRows) -> None:
        """Let shards use some of their rows from now on, whose positions stay; call `restore` before anything else.

        Args:
            source: The rows of the pool, with all columns that are looked at.
            part: Which of them are in use, and where their costs and groups come from.
            bad: Collects rows in use whose cost cannot be used.

        Raises:
            ShardError: processes that keep dying, or the pool is closed.
        """
        ranges = plan_shards(source.num_rows, self._num_shards)
        parts = [part.of_shard(r.start, r.stop) for r in ranges]
        self._journal = Journal()
        self._num_parts += 1
        self._facts = self._crew.narrow(source, parts, self._num_parts)
        for facts in self._facts:
            bad.extend(facts.bad)

    def _settle(self, loaded: list[ShardFacts], bad: BadRows | None) -> None:
        """Take what shards tell of the rows that they have loaded."""
        self._facts = loaded
        found = BadRows([row for facts in loaded for row in facts.bad])
        if bad is not None:
            bad.extend(found)
        elif len(found):
            self.close()
            raise found.refusal(self._source.locate)

    @property
    def num_embedded(self) -> int:
        """How many rows the shards embedded, as their embeddings were not known."""
        return sum(facts.num_embedded for facts in self._facts)

    @property
    def num_rows(self) -> int:
        """N."""
        return self._source.num_rows

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self._dim

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return self._num_shards

    @property
    def rebuilds(self) -> int:
        """How many times a shard was rebuilt so far."""
        return self._crew.rebuilds

    def largest_norm(self) -> float:
        """Return the largest |x|^2 of the pool."""
        return max(facts.largest_norm for facts in self._facts)

    def mean_squared_norm(self) -> float:
        """See `Pool.mean_squared_norm`."""
        num_usable = sum(facts.num_usable for facts in self._facts)
        return mean_of_norms([facts.sum_of_norms for facts in self._facts], num_usable)

    def repeated_id(self) -> tuple[int | str, np.ndarray] | None:
        """See `Pool.repeated_id`. Only if the shards' ranges of ids overlap are all ids exchanged, by hash."""
        spans: list[IdSpan] = [span for span in self._call("id_span") if span is not None]
        if not spans:
            return None
        found = self._exchange_ids() if spans_overlap(spans) else [span.repeated for span in spans]
        repeated = min((i for i in found if i is not None), default=None)
        if repeated is None:
            return None
        return repeated, np.concatenate(self._call("positions_of", repeated))

    def restore(self, start: ScoreSpec, held: np.ndarray, picks: Tensor | None = None) -> None:
        """See `Pool.restore`."""
        self._journal.restored(start, held, picks)
        self._crew.call("restore", put(Recovery(start, None, 0, held, last=None, picks=picks)))

    def propose(self, request: Request) -> RowBatch:
        """See `Pool.propose`."""
        batch = merge_batches(self._call("propose", put(request_per_shard(request, self._num_shards))))
        self._journal.took(batch.positions)
        return batch

    def verify(self, block: Block) -> BlockReport:
        """See `Pool.verify`."""
        self._journal.settle(block.sequence, block.accepted)
        report = merge_reports(self._pass("verify", block_per_shard(block, self._num_shards)))
        taken = np.concatenate([report.challengers.positions, report.proposals.positions])
        self._journal.verified(block, taken)
        return report

    def search_exactly(self, search: ExactSearch) -> float:
        """See `Pool.search_exactly`."""
        self._journal.settle(search.sequence, search.accepted)
        peak = max(self._pass("search_exactly", search))
        self._journal.searched(search)
        return peak

    def tied_winners(self, best: float) -> RowBatch:
        """See `Pool.tied_winners`."""
        batch = merge_batches(self._call("tied_winners", best))
        self._journal.took(batch.positions)
        return batch

    def rank(self, query: RankQuery) -> RankedRows:
        """See `Pool.rank`."""
        return merge_ranked(self._pass("rank", query), query)

    def near(self, query: NearQuery) -> NearRows:
        """See `Pool.near`."""
        return merge_near(self._pass("near", query))

    def second_moment(self) -> Tensor:
        """See `Pool.second_moment`."""
        return torch.stack(self._call("second_moment")).sum(dim=0)

    def rivals(self, query: RivalQuery) -> Rivals:
        """See `Pool.rivals`."""
        return merge_rivals(self._pass("rivals", query))

    def ask(self, question: Question[T]) -> list[T]:
        """See `Pool.ask`."""
        return self._pass("answer", question)

    def close(self) -> None:
        """End the shards' processes. May be called again."""
        self._crew.close()

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _members(self, source: PoolSource) -> list[ShardMember]:
        plan = self._plan
        options = {"num_cpus": plan.num_cpus, "num_gpus": plan.num_gpus, "memory": self._memory}
        return [
            ShardMember(
                f"shard {r.shard} (rows {r.start} to {r.stop - 1})",
                ShardSpec(
                    r.start,
                    r.stop,
                    self._feature_map,
                    plan.dtype,
                    plan.device,
                    plan.num_threads,
                    cache=self._cache,
                    cost_group_columns=self._cost_group_columns,
                ),
                options,
            )
            for r in plan_shards(source.num_rows, plan.num_shards)
        ]

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        return [unpack(reply.result) for reply in self._crew.call(method, *arguments)]

    def _pass(self, method: str, message: Any) -> list[Any]:
        """Call a method that reads all rows; returns what shards say, or several of them together, in order."""
        call = self._crew.call_merged if method in MERGES else self._crew.call
        replies: list[Reply] = call(method, put(message))
        if self._on_pass is not None:
            self._on_pass([time for reply in replies for time in reply.times])
        return [unpack(reply.result) for reply in replies]

    def _exchange_ids(self) -> list[int | str | None]:
        """Let ids of equal hash meet in one shard; return a repeated id of every part, or None."""
        for _ in range(self._policy.max_rebuilds + 1):
            parts = self._crew.submit("id_parts", self._num_shards, self._num_shards)
            arguments = [([part[index] for part in parts],) for index in range(self._num_shards)]
            found = [unpack(reply.result) for reply in self._crew.call_each("repeated_in", arguments)]
            if all(part.complete for part in found):
                return [part.repeated for part in found]
        raise ShardError("shards kept dying while row ids were compared: see the logs of their processes")
