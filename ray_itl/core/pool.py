"""The Pool protocol, which is all the greedy ever sees of a pool, and the pool inside one process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.ids import id_span
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
from ray_itl.core.ranking import RankedRows, RankQuery, merge_ranked
from ray_itl.core.shard import PoolShard

T = TypeVar("T")
Place = Callable[[np.ndarray], np.ndarray]
"""Maps positions."""


class Question(Protocol[T]):
    """Something that shards are asked, each for its own rows, and that changes nothing there.

    Answers, too, have a method `placed`, for pools that number rows otherwise than their shards do.
    """

    def answer(self, shard: PoolShard) -> T:
        """Answer for the rows of one shard."""
        ...

    def placed(self, place: Place) -> Question[T]:
        """Return the same with other positions of rows."""
        ...


class Pool(Protocol):
    """Rows at positions 0..num_rows-1, split over shards; a correct selection never depends on the split."""

    @property
    def num_rows(self) -> int:
        """N."""
        ...

    @property
    def dim(self) -> int:
        """D, number of features."""
        ...

    def largest_norm(self) -> float:
        """Return the largest |x|^2 of the pool."""
        ...

    def mean_squared_norm(self) -> float:
        """Return the mean |x|^2 of the pool, rounded to six digits (see `mean_of_norms`)."""
        ...

    def repeated_id(self) -> tuple[int | str, np.ndarray] | None:
        """Return an id that occurs more than once, with its positions, or None."""
        ...

    def restore(self, start: ScoreSpec, held: np.ndarray, picks: Tensor | None = None) -> None:
        """Bring every row to the state after some picks, forgetting all else; expect block 0 next.

        Args:
            start: Scores after these picks.
            held: Positions of rows that the driver holds.
            picks: The picks' features, k x D, where picks exclude rows like them.
        """
        ...

    def propose(self, request: Request) -> RowBatch:
        """Return about as many of the best rows as asked for; the driver, which held none of them, does from now on.

        Only rows that may be picked; none only if there is no other.
        """
        ...

    def verify(self, block: Block) -> BlockReport:
        """Test every row not held against a block of speculated picks. One pass."""
        ...

    def search_exactly(self, search: ExactSearch) -> float:
        """Return the best exact value among rows not held that may be picked. One pass, float64."""
        ...

    def tied_winners(self, best: float) -> RowBatch:
        """Return, for each shard, the last exact search's row of smallest id that ties with a value, if any."""
        ...

    def rank(self, query: RankQuery) -> RankedRows:
        """Return the best rows of a one-shot ranking (the baselines). One pass."""
        ...

    def near(self, query: NearQuery) -> NearRows:
        """Return the rows that are nearly equal to some others. One pass."""
        ...

    def second_moment(self) -> Tensor:
        """Return X'X of all rows, D x D float64. One pass."""
        ...

    def rivals(self, query: RivalQuery) -> Rivals:
        """Return rows that may be the runner-up of some pick, once all are picked. One pass."""
        ...

    def ask(self, question: Question[T]) -> list[T]:
        """Return the answers of all shards, in their order."""
        ...


class LocalPool:
    """A pool in this process: one or more shards, visited in order."""

    def __init__(self, shards: Sequence[PoolShard]) -> None:
        """Take shards in order of position; empty shards are allowed, an empty pool is not."""
        self._shards: list[PoolShard] = []
        self.replace(lambda: shards)

    def replace(self, load: Callable[[], Sequence[PoolShard]]) -> None:
        """Let go of the shards, then hold those that `load` returns: the old and the new are not in memory at once.

        If `load` fails the pool holds nothing.
        """
        self._shards = []
        self._shards = list(load())
        self._dim = self._shards[0].dim
        self._num_rows = sum(shard.num_rows for shard in self._shards)

    @property
    def shards(self) -> Sequence[PoolShard]:
        """The shards, in order of position."""
        return self._shards

    @property
    def num_rows(self) -> int:
        """N."""
        return self._num_rows

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self._dim

    def largest_norm(self) -> float:
        """Return the largest |x|^2 of the pool."""
        return max(shard.largest_norm for shard in self._shards)

    def mean_squared_norm(self) -> float:
        """See `Pool.mean_squared_norm`."""
        return mean_of_norms(
            [shard.sum_of_norms for shard in self._shards], sum(shard.num_usable for shard in self._shards)
        )

    def repeated_id(self) -> tuple[int | str, np.ndarray] | None:
        """See `Pool.repeated_id`. One sorted copy of all ids."""
        ids = np.concatenate([shard.usable_ids for shard in self._shards])
        repeated = id_span(ids).repeated if len(ids) else None
        if repeated is None:
            return None
        return repeated, np.concatenate([shard.positions_of(repeated) for shard in self._shards])

    def restore(self, start: ScoreSpec, held: np.ndarray, picks: Tensor | None = None) -> None:
        """See `Pool.restore`."""
        for shard in self._shards:
            shard.start(start)
            shard.replay(None, 0, picks)
            shard.hold(held)

    def propose(self, request: Request) -> RowBatch:
        """See `Pool.propose`."""
        each = request_per_shard(request, len(self._shards))
        return merge_batches([shard.propose(each) for shard in self._shards])

    def verify(self, block: Block) -> BlockReport:
        """See `Pool.verify`."""
        block = block_per_shard(block, len(self._shards))
        return merge_reports([shard.verify(block) for shard in self._shards])

    def search_exactly(self, search: ExactSearch) -> float:
        """See `Pool.search_exactly`."""
        return max(shard.search_exactly(search) for shard in self._shards)

    def tied_winners(self, best: float) -> RowBatch:
        """See `Pool.tied_winners`."""
        return merge_batches([shard.tied_winners(best) for shard in self._shards])

    def rank(self, query: RankQuery) -> RankedRows:
        """See `Pool.rank`."""
        return merge_ranked([shard.rank(query) for shard in self._shards], query)

    def near(self, query: NearQuery) -> NearRows:
        """See `Pool.near`."""
        return merge_near([shard.near(query) for shard in self._shards])

    def second_moment(self) -> Tensor:
        """See `Pool.second_moment`."""
        return torch.stack([shard.second_moment() for shard in self._shards]).sum(dim=0)

    def rivals(self, query: RivalQuery) -> Rivals:
        """See `Pool.rivals`."""
        return merge_rivals([shard.rivals(query) for shard in self._shards])

    def ask(self, question: Question[T]) -> list[T]:
        """See `Pool.ask`."""
        return [question.answer(shard) for shard in self._shards]


def mean_of_norms(sums: Iterable[float], num_rows: int) -> float:
    """Return the mean |x|^2 from the sums over shards, rounded to six digits.

    The rounding makes it, and a noise variance relative to it, the same number for any order and split of the rows.
    """
    return float(f"{math.fsum(sums) / num_rows:.5e}")


def per_shard(count: int, num_shards: int) -> int:
    """Return a shard's share of a count, rounded up."""
    return -(-count // num_shards)


def request_per_shard(request: Request, num_shards: int) -> Request:
    """Return the request with each shard's share of the rows."""
    return replace(request, count=per_shard(request.count, num_shards))


def block_per_shard(block: Block, num_shards: int) -> Block:
    """Return the block with each shard's share of the proposals and challengers."""
    return replace(
        block,
        num_proposals=per_shard(block.num_proposals, num_shards),
        max_challengers=per_shard(block.max_challengers, num_shards),
    )


def merge_reports(reports: Sequence[BlockReport]) -> BlockReport:
    """Merge the shards' reports in shard order: a step is verified when every shard verified it."""
    return BlockReport(
        merge_batches([r.challengers for r in reports]),
        min(r.verified_steps for r in reports),
        merge_batches([r.proposals for r in reports]),
        sum(r.num_doubtful for r in reports),
        all(r.holds for r in reports),
    )
