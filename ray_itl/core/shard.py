"""PoolShard: where a run stands with one contiguous part of the pool, and the passes that take it on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.challenges import EXACT_ROWS, ExactScorer
from ray_itl.core.collectors import ChallengerList, TiedRows
from ray_itl.core.feature_store import FeatureStore, RoomForCopies
from ray_itl.core.messages import Block, BlockReport, ExactSearch, Request, RowBatch, ScoreSpec
from ray_itl.core.proposals import Proposer
from ray_itl.core.row_rules import CostsAndGroups, RowRules
from ray_itl.core.screening.arithmetic import Columns
from ray_itl.core.screening.screen import Screen
from ray_itl.core.shard_rows import ShardRows
from ray_itl.errors import StaleShardError


class PoolShard(ShardRows):
    """Rows [first_position, first_position + n) of the pool with a few float64 scores a row.

    The one mutable object of the engine: scores change in place, once per block, because at 10^8 rows a copy is not
    affordable. Everything else about a run lives with the driver, so a lost shard can be rebuilt from its rows by
    `start`, `replay` and `hold`.

    Features may be on disk: a pass reads them, or copies of them (see `screening`), once, in order, and few rows are
    fetched one by one.

    Memory: what the features take, plus 33 bytes a row (two float64 scores, a float64 norm, an id of 8 bytes, a flag),
    8 for each further score, 16 where rows have costs or groups, 4 where targets set a floor, D + 4 for copies in int8,
    2 D in bfloat16.
    """

    def __init__(
        self,
        features: FeatureStore,
        ids: np.ndarray,
        first_position: int,
        norms: Tensor | None = None,
        costs_and_groups: CostsAndGroups | None = None,
        unusable: np.ndarray | None = None,
        room_for_copies: RoomForCopies | None = None,
    ) -> None:
        """Take ownership of n rows (see `ShardRows`), of which no run is under way."""
        super().__init__(features, ids, first_position, norms, costs_and_groups, unusable, room_for_copies)
        self.held = torch.zeros(features.num_rows, dtype=torch.bool, device=features.device)
        self._rules: RowRules | None = None
        self._screen: Screen | None = None
        self._sequence = -1
        self._previous: tuple[Block, Columns] | None = None
        self._tied: TiedRows | None = None

    def narrowed(
        self,
        kept: Tensor | None,
        costs_and_groups: CostsAndGroups | None = None,
        unusable: np.ndarray | None = None,
        ids: np.ndarray | None = None,
    ) -> PoolShard:
        """Return a shard of some of these rows, which shares all but what a run keeps of them.

        Places and positions are those of before; of one shard's narrowed ones, one may be in use at a time.

        Args:
            kept: Which rows are there, n bool; None: all.
            costs_and_groups: As of the constructor.
            unusable: Indices of further rows that cannot be used.
            ids: Of all rows; None: those of before.
        """
        others = [self._unusable, *([] if unusable is None else [unusable])]
        if kept is not None:
            others.append(torch.nonzero(~kept).flatten().cpu().numpy())
        barred = np.unique(np.concatenate(others))
        ids = self.ids if ids is None else ids
        shard = PoolShard(
            self.features, ids, self.first_position, self.norms, costs_and_groups, barred, self._room_for_copies
        )
        shard._copies = self._copies
        shard._left_out = None if kept is None else ~kept.to(self.held.device)
        return shard

    def start(self, start: ScoreSpec) -> None:
        """Compute every row's scores before the first pick; forget everything else. One pass, O(n D r)."""
        self.held.zero_()
        if start.floor is None:
            self._similarities = None
        barred = self._barred(start.floor)
        if barred is not None:
            self.held |= barred
        self._screen = None  # its scores go before others come
        copies = self.copied(start.precision)
        self._rules = (
            None if start.rules is None else RowRules(start.rules, self.features, self.held, self._costs_and_groups)
        )
        costs = None if self._rules is None else self._rules.costs(slice(None))
        self._screen = Screen(start, copies, self.norms, costs)
        self._sequence, self._previous, self._tied = 0, None, None

    def replay(self, columns: Tensor | None, sequence: int, picks: Tensor | None = None) -> None:
        """Apply accepted picks after `start`, then expect a block. One pass, none without columns. O(n D k).

        Args:
            columns: Of the picks, D x num_tracks x k; None where `start` has them all.
            sequence: Number of the next block.
            picks: Their features, k x D, where picks exclude rows like them.
        """
        if columns is not None:
            self._started.replay(columns)
        if self._rules is not None and picks is not None:
            self._rules.keep_away_from(picks)
        self._sequence = sequence

    def hold(self, positions: np.ndarray, held: bool = True) -> None:
        """Mark rows as held by the driver, or as released.

        Args:
            positions: In the pool; those that are not this shard's are passed over.
            held: Whether they are held.
        """
        self.held[self._local(positions)] = held

    def propose(self, request: Request) -> RowBatch:
        """Return the best rows not yet held that may be picked, which the driver holds from now on.

        Fewer than asked for where some of the best are too similar to others; none only if there is no other. O(n)
        without the features.
        """
        chosen = Proposer(self._started, self._rules, self.held, self.norms, self.ids).best(request)
        self.held[chosen] = True
        return self._rows_at(chosen, self._started.scores(chosen))

    def verify(self, block: Block) -> BlockReport:
        """Settle the previous block, test every row against this one, and propose for the next. One pass, O(n D B).

        Raises:
            StaleShardError: another block was due; the shard has missed one or has been replaced.
        """
        rejected = self._settle(block.sequence, block.accepted)
        # Released before the pass: no one else would notice that such a row beats a pick.
        self.hold(block.released, held=False)
        screen = self._started
        columns = screen.columns(block.columns)
        screen.count(columns)
        doubtful = self._pass(rejected, columns, block.values)
        self._previous, self._sequence = (block, columns), block.sequence + 1
        found, exact, holds = ChallengerList(block.size, block.max_challengers), self._exact, True
        for indices in doubtful.split(EXACT_ROWS):
            holds = exact.challenge(block, indices, found) and holds
        indices, scores = found.result(len(screen.tracked))
        self.held[indices.to(self.held.device)] = True
        challengers = self._rows_at(indices, scores)
        proposals = self.propose(block.next_request)
        holds = exact.audit(block, proposals, proposals.positions - self.first_position) and holds
        return BlockReport(challengers, found.verified_steps, proposals, len(doubtful), holds)

    def _pass(self, rejected: Columns | None, columns: Columns, values: Tensor) -> Tensor:
        """Take back what was rejected, subtract columns in advance, and return the indices of rows not excluded."""
        screen, kernel = self._started, self._started.kernel(columns, values)
        doubtful = torch.zeros_like(self.held)
        for rows, chunk in screen.chunks():
            if rejected is not None:
                screen.subtract(rejected, rows, chunk, -1.0)
            doubtful[rows] = screen.judge(kernel, rows, chunk)
        # Rows that the driver holds are in its own speculation, with exact scores.
        return torch.nonzero(doubtful & ~self.held).flatten()

    def search_exactly(self, search: ExactSearch) -> float:
        """Settle, then score in float64 every row that may win; keep those near the best for `tied_winners`. One pass.

        Returns:
            The best exact value (gain over price) of a row not held; -inf where there is none.

        Raises:
            StaleShardError: another block was due.
        """
        rejected = self._settle(search.sequence, search.accepted)
        spec = self._started.spec
        none = torch.zeros(self.dim, spec.acquisition.num_tracks, 0, dtype=torch.float64)
        doubtful = self._pass(rejected, self._started.columns(none), search.value)
        best, self._tied = self._exact.best(search, doubtful)
        self._sequence = search.sequence + 1
        return best

    def tied_winners(self, best: float) -> RowBatch:
        """Return the row of the smallest id among the last search's rows that tie with a value (or no row)."""
        chosen = torch.empty(0, dtype=torch.int64)
        if self._tied is not None:
            tied = self._tied.tied_with(best, self._exact.prices(self._tied.indices))
            chosen = tied[np.argsort(self.ids[tied.numpy()], kind="stable")[:1]]
        self._tied = None
        self.held[chosen] = True
        return self._rows_at(chosen, self._started.scores(chosen.to(self.held.device)))

    @property
    def _exact(self) -> ExactScorer:
        return ExactScorer(self._started, self._rules, self.features)

    @property
    def _started(self) -> Screen:
        if self._screen is None:
            raise StaleShardError(f"the shard at row {self.first_position} has not been started")
        return self._screen

    def _settle(self, sequence: int, accepted: int) -> Columns | None:
        """Return the columns of the previous block's rejected picks, which were subtracted in advance, or None.

        The pass that follows takes them back chunk by chunk, so that settling costs no pass of its own.
        """
        if sequence != self._sequence:
            raise StaleShardError(
                f"the shard at row {self.first_position} expects block {self._sequence}, got block {sequence}"
            )
        previous, self._previous = self._previous, None
        if previous is None:
            return None
        block, columns = previous
        if self._rules is not None and block.picks is not None:
            self._rules.keep_away_from(block.picks[:accepted])
        if accepted >= block.size:
            return None
        rejected = columns.after(accepted)
        self._started.count(rejected, again=True)
        return rejected
