"""Some rows of a loaded pool as a pool of their own, without loading anything again.

A `ShardPart` narrows one shard; a `PartPool` numbers the rows that are left, as a source of them alone does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.messages import (
    Block,
    BlockReport,
    ExactSearch,
    Request,
    RivalQuery,
    Rivals,
    RowBatch,
    ScoreSpec,
)
from ray_itl.core.near_rows import NearQuery, NearRows
from ray_itl.core.pool import Pool, Question, T
from ray_itl.core.ranking import RankedRows, RankQuery
from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.core.shard import PoolShard
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.condition import RowMask
from ray_itl.sources.costs_and_groups import CostGroupColumns, read_costs_and_groups


@dataclass(frozen=True)
class ShardPart:
    """Which of a shard's rows there are, and where their costs and groups come from."""

    kept: RowMask | None = None
    """Of the shard's rows, in order; None: all."""
    cost_group_columns: CostGroupColumns | None = None
    """None: every row costs 1, and all are of one group."""
    first_id: int | None = None
    """Where ids are the numbers of kept rows: that of the first."""

    def of(self, shard: PoolShard, source: PoolSource, bad: BadRows) -> PoolShard:
        """Return the part of a shard; rows of it whose cost cannot be used are noted.

        Args:
            shard: The whole one.
            source: The rows of the pool, the columns of costs and groups among them.
            bad: Collects rows that cannot be used, by their positions in the source.
        """
        first, stop = shard.first_position, shard.first_position + shard.num_rows
        costs_and_groups: CostsAndGroups | None = None
        found = BadRows()
        if self.cost_group_columns is not None:
            costs_and_groups = read_costs_and_groups(source, self.cost_group_columns, first, stop, found)
        kept = None
        if self.kept is not None:
            kept = self.kept.slice(0, shard.num_rows)
            found = BadRows([row for row in found if kept[row.position - first]])
        bad.extend(found)
        mask, ids = None, None
        if kept is not None:
            mask = torch.from_numpy(kept)
            ids = None if self.first_id is None else self.first_id + np.cumsum(kept) - 1
        return shard.narrowed(mask, costs_and_groups, found.positions - first, ids)


@dataclass(frozen=True)
class PoolPart:
    """Which rows of a pool there are, and where their costs and groups come from."""

    kept: RowMask | None
    """None: all."""
    cost_group_columns: CostGroupColumns | None
    """None: every row costs 1, and all are of one group."""
    ids_are_numbers: bool = False
    """Whether a row's id is its number among those kept."""

    @property
    def is_all(self) -> bool:
        """Whether it is the pool as it was loaded."""
        return self.kept is None and self.cost_group_columns is None

    def of_shard(self, first: int, stop: int) -> ShardPart:
        """Return the part of the shard that holds rows `first <= position < stop`."""
        if self.kept is None:
            return ShardPart(None, self.cost_group_columns)
        number = self.kept.number(first) if self.ids_are_numbers else None
        return ShardPart(RowMask.of(self.kept.pieces(first, stop)), self.cost_group_columns, number)


class PartPool:
    """The kept rows of a pool, whose shards are narrowed to them: positions number these rows alone (see `Pool`)."""

    def __init__(self, pool: Pool, kept: RowMask) -> None:
        """Take a pool of narrowed shards, and which of its rows are kept."""
        self._pool = pool
        self._kept = kept

    @property
    def num_rows(self) -> int:
        """N, of the kept rows."""
        return self._kept.count

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self._pool.dim

    def largest_norm(self) -> float:
        """See `Pool`."""
        return self._pool.largest_norm()

    def mean_squared_norm(self) -> float:
        """See `Pool`."""
        return self._pool.mean_squared_norm()

    def repeated_id(self) -> tuple[int | str, np.ndarray] | None:
        """See `Pool`."""
        found = self._pool.repeated_id()
        return None if found is None else (found[0], self._kept.numbers(found[1]))

    def restore(self, start: ScoreSpec, held: np.ndarray, picks: Tensor | None = None) -> None:
        """See `Pool`."""
        self._pool.restore(start, self._kept.rows(held), picks)

    def propose(self, request: Request) -> RowBatch:
        """See `Pool`."""
        return self._numbered(self._pool.propose(request))

    def verify(self, block: Block) -> BlockReport:
        """See `Pool`."""
        report = self._pool.verify(replace(block, released=self._kept.rows(block.released)))
        return replace(
            report, challengers=self._numbered(report.challengers), proposals=self._numbered(report.proposals)
        )

    def search_exactly(self, search: ExactSearch) -> float:
        """See `Pool`."""
        return self._pool.search_exactly(search)

    def tied_winners(self, best: float) -> RowBatch:
        """See `Pool`."""
        return self._numbered(self._pool.tied_winners(best))

    def rank(self, query: RankQuery) -> RankedRows:
        """See `Pool`."""
        ranked = self._pool.rank(query)
        return replace(ranked, rows=self._numbered(ranked.rows))

    def near(self, query: NearQuery) -> NearRows:
        """See `Pool`."""
        found = self._pool.near(query)
        return replace(found, positions=self._kept.numbers(found.positions))

    def second_moment(self) -> Tensor:
        """See `Pool`."""
        return self._pool.second_moment()

    def rivals(self, query: RivalQuery) -> Rivals:
        """See `Pool`."""
        rows = self._kept.rows
        found = self._pool.rivals(replace(query, picks=rows(query.picks), excluded=rows(query.excluded)))
        return replace(found, rows=self._numbered(found.rows))

    def ask(self, question: Question[T]) -> list[T]:
        """See `Pool`."""
        answers: list[Any] = self._pool.ask(question.placed(self._kept.rows))
        return [answer.placed(self._kept.numbers) for answer in answers]

    def _numbered(self, batch: RowBatch) -> RowBatch:
        return replace(batch, positions=self._kept.numbers(batch.positions))
