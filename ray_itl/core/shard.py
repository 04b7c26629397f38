"""PoolShard: the bulk per-row state of one contiguous part of the pool, and the passes over it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.challenges import EXACT_ROWS, ExactScorer
from ray_itl.core.collectors import ChallengerList, TiedRows
from ray_itl.core.feature_store import FeatureStore, RoomForCopies
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import (
    Block,
    BlockReport,
    ExactSearch,
    Precision,
    Request,
    RivalQuery,
    Rivals,
    RowBatch,
    ScoreSpec,
)
from ray_itl.core.near_rows import NearQuery, NearRows, find_near
from ray_itl.core.proposals import Proposer
from ray_itl.core.ranking import RankedRows, RankQuery, rank_features
from ray_itl.core.rivals import find_rivals
from ray_itl.core.row_rules import CostsAndGroups, RowRules
from ray_itl.core.screening.arithmetic import Columns
from ray_itl.core.screening.copies import RowCopies, copy_bytes
from ray_itl.core.screening.screen import Screen, copy_rows
from ray_itl.core.similarity_floor import NearestSimilarities, SimilarityFloor
from ray_itl.errors import StaleShardError


class PoolShard:
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
        """Take ownership of n rows.

        Args:
            features: n x D, of any float type.
            ids: n, int64, uint64 or StringDType.
            first_position: Position of the first row in the pool.
            norms: |x|^2 of every row (n float64); None costs a pass.
            costs_and_groups: Of the rows; None: every row costs 1, and all are of one group.
            unusable: Indices of rows of which the features and ids mean nothing; the driver excludes them.
            room_for_copies: Where copies of rows are kept; None: in memory.
        """
        self.features = features
        self.ids = ids
        self._unusable = np.empty(0, dtype=np.int64) if unusable is None else unusable
        self.first_position = first_position
        self._room_for_copies = room_for_copies
        self.held = torch.zeros(features.num_rows, dtype=torch.bool, device=features.device)
        self.norms = self._squared_norms() if norms is None else norms.to(features.device)
        self._costs_and_groups = costs_and_groups
        self._rules: RowRules | None = None
        self._screen: Screen | None = None
        self._copies: dict[Precision, RowCopies] = {}
        self._left_out: Tensor | None = None
        self._similarities: NearestSimilarities | None = None
        self._drawn: tuple[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] | None = None
        self._sequence = -1
        self._previous: tuple[Block, Columns] | None = None
        self._tied: TiedRows | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.features.num_rows

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self.features.dim

    @property
    def num_usable(self) -> int:
        """Number of rows that can be used."""
        return self.num_rows - len(self._unusable)

    @property
    def usable_ids(self) -> np.ndarray:
        """Ids of the rows that can be used: those that must be distinct."""
        return np.delete(self.ids, self._unusable) if len(self._unusable) else self.ids

    @property
    def largest_norm(self) -> float:
        """Largest |x|^2 of the shard."""
        norms = self.norms if self._left_out is None else self.norms[~self._left_out]
        return float(norms.max()) if len(norms) else 0.0

    @property
    def sum_of_norms(self) -> float:
        """Sum of |x|^2 over the rows that can be used."""
        return float(self.norms.sum() - self.norms[torch.from_numpy(self._unusable).to(self.norms.device)].sum())

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

    def free(self, excluded: np.ndarray) -> Tensor:
        """Return which rows are there and at none of some positions of the pool: n bool."""
        free = torch.ones_like(self.held) if self._left_out is None else ~self._left_out
        local = excluded - self.first_position
        free[torch.as_tensor(local[(local >= 0) & (local < self.num_rows)], device=free.device)] = False
        return free

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
        local = positions - self.first_position
        local = local[(local >= 0) & (local < self.num_rows)]
        self.held[torch.as_tensor(local, device=self.held.device)] = held

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

    def rank(self, query: RankQuery) -> RankedRows:
        """Return this shard's best rows of a one-shot ranking; touches no state. One pass, none for a draw."""
        best = self._ranked(query)
        distinct, inverse = np.unique(np.concatenate([indices for indices, _ in best]), return_inverse=True)
        rows = self._rows_at(torch.as_tensor(distinct), ())
        ends = np.cumsum([len(indices) for indices, _ in best])[:-1]
        return RankedRows(np.split(inverse, ends), [scores for _, scores in best], rows)

    def _ranked(self, query: RankQuery) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what `rank_features` does; the last draw is remembered, since texts take long to hash."""
        asked = query.seed, query.count
        if query.kind == "random" and self._drawn is not None and self._drawn[0] == asked:
            return self._drawn[1]
        left_out = None if self._left_out is None else self._left_out.cpu().numpy()
        best = rank_features(self.features, self.ids, query, left_out)
        if query.kind == "random":
            self._drawn = asked, best
        return best

    def near(self, query: NearQuery) -> NearRows:
        """Return this shard's rows that are nearly equal to some others; touches no state. One pass."""
        found = find_near(self.features, self.first_position, query)
        if self._left_out is None:
            return found
        return found.at(np.flatnonzero(~self._left_out.cpu().numpy()[found.positions - self.first_position]))

    def similarities(self, directions: Tensor) -> NearestSimilarities:
        """Return how like their nearest target rows are, kept until others are asked for. One pass, O(n D M), or none.

        Args:
            directions: Of the targets, M x D float64 of norm 1 (or 0).
        """
        if self._similarities is None or not torch.equal(self._similarities.directions, directions):
            self._similarities = None
            self._similarities = NearestSimilarities(self.features, self.norms, directions)
        return self._similarities

    def second_moment(self) -> Tensor:
        """Return X'X of all rows that can be used, D x D float64. One pass, O(n D^2)."""
        moment = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        for rows, features in self.features.chunks():
            exact = features.to(torch.float64)
            unusable = self._unusable[(self._unusable >= rows.start) & (self._unusable < rows.stop)] - rows.start
            if len(unusable):
                exact = exact.clone()
                exact[torch.from_numpy(unusable).to(exact.device)] = 0.0
            moment += (exact.mT @ exact).cpu()
        return moment

    def rivals(self, query: RivalQuery) -> Rivals:
        """Return rows of this shard that may be the runner-up of some pick; touches no state. One pass."""
        copies, barred = self.copied(query.start.precision), self._barred(query.start.floor)
        steps, indices = find_rivals(
            self.features, copies, self.ids, self.norms, self.first_position, query, self._costs_and_groups, barred
        )
        distinct, places = np.unique(indices, return_inverse=True)
        return Rivals(steps, places, self._rows_at(torch.as_tensor(distinct), ()))

    def positions_of(self, row_id: int | str) -> np.ndarray:
        """Return the positions at which an id stands in this shard. O(n)."""
        found = np.flatnonzero(self.ids == row_id)
        return np.setdiff1d(found, self._unusable, assume_unique=True) + self.first_position

    def _barred(self, floor: SimilarityFloor | None) -> Tensor | None:
        """Return which rows may never be picked, as they are left out or below a floor: n bool; None for none."""
        if floor is None:
            return self._left_out
        below = ~self.similarities(floor.directions).at_least(floor.steps)
        return below if self._left_out is None else below | self._left_out

    @property
    def _exact(self) -> ExactScorer:
        return ExactScorer(self._started, self._rules, self.features)

    @property
    def _started(self) -> Screen:
        if self._screen is None:
            raise StaleShardError(f"the shard at row {self.first_position} has not been started")
        return self._screen

    def copied(self, precision: Precision) -> RowCopies:
        """Return the rows' copies in a precision, those of before where they are in it."""
        if precision not in self._copies:
            if copy_bytes(precision, self.dim):
                self._copies.clear()  # two are never in memory at once
            self._copies[precision] = copy_rows(self.features, precision, self.norms, self._room_for_copies)
        return self._copies[precision]

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

    def _rows_at(self, indices: Tensor, scores: tuple[Tensor, ...]) -> RowBatch:
        """Hand over rows with their scores."""
        local = indices.cpu()
        costs_and_groups = (
            CostsAndGroups.default(len(local)) if self._costs_and_groups is None else self._costs_and_groups.at(local)
        )
        return RowBatch(
            positions=local.numpy() + self.first_position,
            ids=self.ids[local.numpy()],
            features=self.features.rows(indices.to(self.held.device)).cpu(),
            scores=tuple(score.cpu() for score in scores),
            costs=costs_and_groups.costs,
            groups=costs_and_groups.groups,
        )

    def _squared_norms(self) -> Tensor:
        norms = torch.empty(self.num_rows, dtype=torch.float64, device=self.features.device)
        for rows, features in self.features.chunks():
            norms[rows] = squared_norms(features)
        return norms
