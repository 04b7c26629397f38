"""PoolShard: the bulk per-row state of one contiguous part of the pool, and the passes over it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.collectors import ChallengerList, TiedRows, drop_duplicates
from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.linalg import squared_norms
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
from ray_itl.core.ranking import RankedRows, RankQuery, rank_features
from ray_itl.core.rivals import find_rivals
from ray_itl.core.row_rules import CostsAndGroups, RowRules
from ray_itl.core.screening import prepare_kernel, row_decrements
from ray_itl.errors import StaleShardError

_SCAN_ROWS = 1 << 18
_REPLAY_COLUMNS = 128
_LARGEST = torch.finfo(torch.float64).max


class PoolShard:
    """Rows [first_position, first_position + n) of the pool with a few float64 scores a row.

    The one mutable object of the engine: scores change in place, once per block, because at 10^8 rows a copy is not
    affordable. Everything else about a run lives with the driver, so a lost shard can be rebuilt from its rows by
    `start`, `replay` and `hold`.

    Features may be on disk: every pass reads them once, in order, and few rows are fetched one by one.

    Memory: what the features take, plus 33 bytes a row (two float64 scores, a float64 norm, an id of 8 bytes, a flag),
    8 for each further score, and 16 where rows have costs or groups.
    """

    def __init__(
        self,
        features: FeatureStore,
        ids: np.ndarray,
        first_position: int,
        norms: Tensor | None = None,
        costs_and_groups: CostsAndGroups | None = None,
        unusable: np.ndarray | None = None,
    ) -> None:
        """Take ownership of n rows.

        Args:
            features: n x D, of any float type.
            ids: n, int64, uint64 or StringDType.
            first_position: Position of the first row in the pool.
            norms: |x|^2 of every row (n float64); None costs a pass.
            costs_and_groups: Of the rows; None: every row costs 1, and all are of one group.
            unusable: Indices of rows of which the features and ids mean nothing; the driver excludes them.
        """
        self.features = features
        self.ids = ids
        self._unusable = np.empty(0, dtype=np.int64) if unusable is None else unusable
        self.first_position = first_position
        self.held = torch.zeros(features.num_rows, dtype=torch.bool, device=features.device)
        self.norms = self._squared_norms() if norms is None else norms.to(features.device)
        self.scores: Scores = ()
        self._costs_and_groups = costs_and_groups
        self._rules: RowRules | None = None
        self._start: ScoreSpec | None = None
        self._sequence = -1
        self._previous: Block | None = None
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
        return float(self.norms.max()) if self.num_rows else 0.0

    @property
    def sum_of_norms(self) -> float:
        """Sum of |x|^2 over the rows that can be used."""
        return float(self.norms.sum() - self.norms[torch.from_numpy(self._unusable).to(self.norms.device)].sum())

    def start(self, start: ScoreSpec) -> None:
        """Compute every row's scores before the first pick; forget everything else. One pass, O(n D r)."""
        self._start = start
        self.held.zero_()
        self.scores = tuple(self.norms * form.scale for form in start.quadratics)
        products = [
            (out, form.sign, form.factor.to(self.features.device, start.dtype))
            for out, form in zip(self.scores, start.quadratics, strict=True)
            if form.factor.shape[1]
        ]
        for rows, features in self._chunks() if products else ():
            for out, sign, factor in products:
                out[rows].add_((features @ factor).square_().sum(dim=1, dtype=torch.float64), alpha=sign)
        self._sequence, self._previous, self._tied = 0, None, None
        self._rules = (
            None if start.rules is None else RowRules(start.rules, self.features, self.held, self._costs_and_groups)
        )

    def replay(self, columns: Tensor, sequence: int, picks: Tensor | None = None) -> None:
        """Apply accepted picks after `start`, then expect a block. One pass, none for k = 0. O(n D k).

        Args:
            columns: Of the picks, D x num_tracks x k.
            sequence: Number of the next block.
            picks: Their features, k x D, where picks exclude rows like them.
        """
        parts = [self._weights(part) for part in columns.split(_REPLAY_COLUMNS, dim=2) if part.shape[2]]
        for rows, features in self._chunks() if parts else ():
            for weights in parts:
                self._subtract(rows, row_decrements(self._started.acquisition, features, weights), -1.0)
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
        chosen = self._best_available(request)
        self.held[chosen] = True
        return self._rows_at(chosen, self._scores_at(chosen))

    def verify(self, block: Block) -> BlockReport:
        """Settle the previous block, test every row against this one, and propose for the next. One pass, O(n D B).

        Raises:
            StaleShardError: another block was due; the shard has missed one or has been replaced.
        """
        rejected = self._settle(block.sequence, block.accepted)
        # Released before the pass: no one else would notice that such a row beats a pick.
        self.hold(block.released, held=False)
        kernel = prepare_kernel(self._started, block.columns, block.values, self.features.device)
        found = ChallengerList(block.size, block.max_challengers)
        for rows, features in self._chunks():
            # Scores must be those before this block, and the last one's rejected picks are in them still.
            self._take_back(rows, features, rejected)
            scores = self._scores_at(rows)
            decrements = kernel.decrements(features)
            margins = kernel.margins(scores, self.norms[rows], self._costs(rows), decrements)
            # Rows that the driver holds are in its own speculation, with exact scores.
            candidates = torch.nonzero((margins.amax(dim=1) > 0) & ~self.held[rows]).flatten()
            if len(candidates):
                challenges = margins[candidates] > 0
                if self._rules is not None:
                    challenges &= self._rules.may_be_picked(candidates + rows.start, challenges, block)
                    some = challenges.any(dim=1)
                    candidates, challenges = candidates[some], challenges[some]
                found.add(candidates + rows.start, challenges, tuple(score[candidates] for score in scores))
            # In advance, as if all picks were true: settling the few that are not is cheaper than a pass of its own.
            self._subtract(rows, decrements, -1.0)
        self._previous, self._sequence = block, block.sequence + 1
        indices, scores = found.result(len(self.scores))
        self.held[indices] = True
        challengers = self._rows_at(indices, scores)
        return BlockReport(challengers, found.verified_steps, self.propose(block.next_request))

    def search_exactly(self, search: ExactSearch) -> float:
        """Settle, then score in float64 every row that may win; keep those near the best for `tied_winners`. One pass.

        Returns:
            The best exact value (gain over price) of a row not held; -inf where there is none.

        Raises:
            StaleShardError: another block was due.
        """
        rejected = self._settle(search.sequence, search.accepted)
        start, acquisition = self._started, self._started.acquisition
        none = torch.zeros(self.dim, acquisition.num_tracks, 1, dtype=torch.float64)
        kernel = prepare_kernel(start, none, search.value, self.features.device)
        gains, indices, best = [], [], float("-inf")
        for rows, features in self._chunks():
            self._take_back(rows, features, rejected)
            margins = kernel.margins(self._scores_at(rows), self.norms[rows], self._costs(rows), None)
            local = torch.nonzero((margins[:, 0] > 0) & ~self.held[rows]).flatten()
            if self._rules is not None:
                local = local[self._rules.may_win(local + rows.start, search.gate)]
            if not len(local):
                continue
            gain = acquisition.gain(search.state.scores(features[local].to("cpu", torch.float64)))
            prices = self._prices(local + rows.start)
            best = max(best, float((gain / prices).max()))
            # Not the best row alone: its value may tie with that of another shard, and then the smallest id wins.
            near = gain >= start.needed(torch.tensor(best, dtype=torch.float64), prices)
            gains.append(gain[near])
            indices.append(local.cpu()[near] + rows.start)
        self._tied = TiedRows(torch.cat(gains), torch.cat(indices), start.gain_scale) if gains else None
        self._sequence = search.sequence + 1
        return best

    def tied_winners(self, best: float) -> RowBatch:
        """Return the row of the smallest id among the last search's rows that tie with a value (or no row)."""
        chosen = torch.empty(0, dtype=torch.int64)
        if self._tied is not None:
            tied = self._tied.tied_with(best, self._prices(self._tied.indices))
            chosen = tied[np.argsort(self.ids[tied.numpy()], kind="stable")[:1]]
        self._tied = None
        self.held[chosen] = True
        return self._rows_at(chosen, self._scores_at(chosen))

    def rank(self, query: RankQuery) -> RankedRows:
        """Return this shard's best rows of a one-shot ranking; touches no state. One pass."""
        best = rank_features(self.features, self.ids, query)
        distinct, inverse = np.unique(np.concatenate([indices for indices, _ in best]), return_inverse=True)
        rows = self._rows_at(torch.as_tensor(distinct), ())
        ends = np.cumsum([len(indices) for indices, _ in best])[:-1]
        return RankedRows(np.split(inverse, ends), [scores for _, scores in best], rows)

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
        steps, indices = find_rivals(
            self.features, self.ids, self.norms, self.first_position, query, self._costs_and_groups
        )
        distinct, places = np.unique(indices, return_inverse=True)
        return Rivals(steps, places, self._rows_at(torch.as_tensor(distinct), ()))

    def positions_of(self, row_id: int | str) -> np.ndarray:
        """Return the positions at which an id stands in this shard. O(n)."""
        found = np.flatnonzero(self.ids == row_id)
        return np.setdiff1d(found, self._unusable, assume_unique=True) + self.first_position

    @property
    def _started(self) -> ScoreSpec:
        if self._start is None:
            raise StaleShardError(f"the shard at row {self.first_position} has not been started")
        return self._start

    def _settle(self, sequence: int, accepted: int) -> Tensor | None:
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
        if self._rules is not None and previous.picks is not None:
            self._rules.keep_away_from(previous.picks[:accepted])
        if accepted >= previous.size:
            return None
        return self._weights(previous.columns[:, :, accepted:])

    def _take_back(self, rows: slice, features: Tensor, rejected: Tensor | None) -> None:
        if rejected is not None:
            self._subtract(rows, row_decrements(self._started.acquisition, features, rejected), 1.0)

    def _weights(self, columns: Tensor) -> Tensor:
        """Return columns (D x num_tracks x k) as the right-hand side of a product with rows."""
        return columns.flatten(1).to(self.features.device, self._started.dtype)

    def _subtract(self, rows: slice, decrements: Tensor, sign: float) -> None:
        dropped = decrements.sum(dim=2)
        for score, track in zip(self.scores, self._started.acquisition.score_tracks, strict=True):
            score[rows].add_(dropped[:, track], alpha=sign)

    def _scores_at(self, rows: slice | Tensor) -> Scores:
        return tuple(score[rows] for score in self.scores)

    def _costs(self, rows: slice | Tensor) -> Tensor | None:
        return None if self._rules is None else self._rules.costs(rows)

    def _prices(self, indices: Tensor) -> Tensor:
        """Return by what the gains of rows are divided, on the CPU."""
        if self._rules is None:
            return torch.ones(len(indices), dtype=torch.float64)
        return self._rules.rules.prices(self._rules.costs(indices).cpu())

    def _best_available(self, request: Request) -> Tensor:
        """Return indices of the best rows that nothing excludes, descending; none only if there is no other."""
        if self._rules is None:
            return self._best(request)
        set_aside: list[Tensor] = []
        try:
            while True:
                chosen = self._best(request)
                available = self._rules.available(chosen, request.picks)  # marks in `held` what is excluded for good
                # A few are enough: the driver asks again. None would tell it that there is no row left.
                if not len(chosen) or bool(available.any()):
                    return chosen[available]
                # All are like picks that may yet be rejected: look past them now, offer them again another time.
                set_aside.append(chosen[~self.held[chosen]])
                self.held[chosen] = True
        finally:
            for indices in set_aside:
                self.held[indices] = False

    def _best(self, request: Request) -> Tensor:
        """Return indices of the best rows not held that may be picked, copies thinned out, in descending order."""
        count = request.count
        wanted, floor = 2 * count, float("-inf")
        values = torch.empty(0, dtype=torch.float64, device=self.norms.device)
        indices = torch.empty(0, dtype=torch.int64, device=self.norms.device)
        for first in range(0, self.num_rows if count > 0 else 0, _SCAN_ROWS):
            rows = slice(first, min(first + _SCAN_ROWS, self.num_rows))
            value = self._values(rows).masked_fill_(self.held[rows], float("-inf"))
            if self._rules is not None:
                value.masked_fill_(~self._rules.admitted(rows, request.gate), float("-inf"))
            near = torch.nonzero(value > floor).flatten()
            values, indices = torch.cat([values, value[near]]), torch.cat([indices, near + first])
            top = torch.topk(values, min(wanted, len(values)))
            values, indices = top.values, indices[top.indices]
            # Once the list is full, most rows of a chunk fall below its last and need no sorting.
            floor = float(values[-1]) if len(values) == wanted else floor
        indices = indices[torch.isfinite(values)]
        return self._thin_copies(indices)[:count] if count < self.num_rows else indices

    def _values(self, rows: slice) -> Tensor:
        """Return what rows are sorted by."""
        acquisition = self._started.acquisition
        scores = self._scores_at(rows)
        if self._rules is not None and self._rules.rules.per_cost:
            values = acquisition.gain(scores) / self._rules.costs(rows)
        else:
            values = acquisition.order(scores)
        # Where rounding exceeds the noise a value may be no number; such a row must still be found in the end.
        return values.nan_to_num(nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)  # a new tensor: `values` may be the scores

    def _thin_copies(self, indices: Tensor) -> Tensor:
        """Keep at most two (of the smallest ids) of rows with the same scores: copies waste a proposal."""
        facts = [*self._scores_at(indices), self.norms[indices]]
        if self._rules is not None:  # the cheaper copy, or one of another group, is no waste
            facts += [self._rules.costs(indices), self._rules.groups(indices)]
        kept = drop_duplicates(facts, self.ids[indices.cpu().numpy()])
        return indices[torch.as_tensor(kept, device=indices.device)]

    def _rows_at(self, indices: Tensor, scores: Scores) -> RowBatch:
        """Hand over rows with their scores."""
        local = indices.cpu()
        costs_and_groups = (
            CostsAndGroups.default(len(local)) if self._costs_and_groups is None else self._costs_and_groups.at(local)
        )
        return RowBatch(
            positions=local.numpy() + self.first_position,
            ids=self.ids[local.numpy()],
            features=self.features.rows(indices).cpu(),
            scores=tuple(score.cpu() for score in scores),
            costs=costs_and_groups.costs,
            groups=costs_and_groups.groups,
        )

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Read all rows once, in the screening precision."""
        dtype = self._started.dtype
        for rows, features in self.features.chunks():
            yield rows, features.to(dtype)

    def _squared_norms(self) -> Tensor:
        norms = torch.empty(self.num_rows, dtype=torch.float64, device=self.features.device)
        for rows, features in self.features.chunks():
            norms[rows] = squared_norms(features)
        return norms
