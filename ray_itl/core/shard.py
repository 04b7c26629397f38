"""PoolShard: the bulk per-row state of one contiguous part of the pool, and the passes over it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Scores
from ray_itl.core.challengers import ChallengerList
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import Block, BlockReport, Contest, Peak, RowBatch, Start
from ray_itl.core.ranking import RankedRows, RankQuery, rank_features
from ray_itl.core.screening import BlockKernel, row_decrements
from ray_itl.core.store import FeatureStore
from ray_itl.errors import StaleShardError

_SCAN_ROWS = 1 << 18
_REPLAY_COLUMNS = 128


class PoolShard:
    """Rows [first_position, first_position + n) of the pool with two float64 scores a row.

    The one mutable object of the engine: num and den change in place, once per block, because at 10^8 rows a
    copy is not affordable. Everything else about a run lives with the driver, so a lost shard can be rebuilt from
    its rows by `start`, `replay` and `hold`. num and den are kept without their constant terms (the noise variance),
    next to which thousands of small decrements would be lost to rounding.

    Features may be on disk: every pass reads them once, in order, and few rows are fetched one by one.

    Memory: what the features take, plus 33 bytes a row (two float64 scores, a float64 norm, an id of 8 bytes, a flag).
    """

    def __init__(
        self, features: FeatureStore, ids: np.ndarray, first_position: int, norms: Tensor | None = None
    ) -> None:
        """Take ownership of n rows.

        Args:
            features: n x D, of any float type.
            ids: n, int64 or StringDType.
            first_position: Position of the first row in the pool.
            norms: |x|^2 of every row (n float64); None costs a pass.
        """
        self.features = features
        self.ids = ids
        self.first_position = first_position
        self.held = torch.zeros(features.num_rows, dtype=torch.bool, device=features.device)
        self.norms = self._squared_norms() if norms is None else norms.to(features.device)
        self.num = self.den = torch.empty(0)
        self._start: Start | None = None
        self._sequence = -1
        self._previous: Tensor | None = None
        self._tied: tuple[Tensor, Tensor] | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.features.num_rows

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self.features.dim

    @property
    def largest_norm(self) -> float:
        """Largest |x|^2 of the shard."""
        return float(self.norms.max()) if self.num_rows else 0.0

    def start(self, start: Start) -> None:
        """Compute every row's scores before the first pick; forget everything else. One pass, O(n D r)."""
        self._start = start
        self.held.zero_()
        self.num, self.den = self.norms * start.num.scale, self.norms * start.den.scale
        terms = [
            (out, form.sign, form.factor.to(self.features.device, start.dtype))
            for out, form in ((self.num, start.num), (self.den, start.den))
            if form.factor.shape[1]
        ]
        for rows, features in self._chunks() if terms else ():
            for out, sign, factor in terms:
                out[rows].add_((features @ factor).square_().sum(dim=1, dtype=torch.float64), alpha=sign)
        self._sequence, self._previous, self._tied = 0, None, None

    def replay(self, columns: Tensor, sequence: int) -> None:
        """Apply accepted picks' columns (D x num_tracks x k) after `start`, then expect block `sequence`.

        One pass, none for k = 0. O(n D k).
        """
        parts = [self._weights(part) for part in columns.split(_REPLAY_COLUMNS, dim=2) if part.shape[2]]
        for rows, features in self._chunks() if parts else ():
            for weights in parts:
                self._subtract(rows, row_decrements(self._started.acquisition, features, weights), -1.0)
        self._sequence = sequence

    def hold(self, positions: np.ndarray, held: bool = True) -> None:
        """Mark those of the positions that are this shard's as held (or released) by the driver."""
        local = positions - self.first_position
        local = local[(local >= 0) & (local < self.num_rows)]
        self.held[torch.as_tensor(local, device=self.held.device)] = held

    def propose(self, count: int) -> RowBatch:
        """Return the `count` best rows not yet held, which the driver holds from now on. O(n) without the features."""
        chosen = self._best(count)
        self.held[chosen] = True
        return self._batch(chosen, self.num[chosen], self.den[chosen])

    def verify(self, block: Block) -> BlockReport:
        """Settle the previous block, test every row against this one, and propose for the next. One pass."""
        rejected = self._settle(block.sequence, block.accepted)
        self.hold(block.released, held=False)
        kernel = BlockKernel.prepare(self._started, block.columns, block.thresholds, self.features.device)
        found = ChallengerList(block.size, block.max_challengers)
        for rows, features in self._chunks():
            num, den = self.num[rows], self.den[rows]
            self._take_back(rows, features, rejected)
            decrements = kernel.decrements(features)
            margins = kernel.margins(num, den, self.norms[rows], decrements)
            candidates = torch.nonzero((margins.amax(dim=1) > 0) & ~self.held[rows]).flatten()
            if len(candidates):
                found.add(candidates + rows.start, margins[candidates] > 0, num[candidates], den[candidates])
            self._subtract(rows, decrements, -1.0)
        self._previous, self._sequence = block.columns, block.sequence + 1
        indices, scores = found.result()
        self.held[indices] = True
        challengers = self._batch(indices, scores.num, scores.den)
        return BlockReport(challengers, found.verified_steps, self.propose(block.num_proposals))

    def contest(self, contest: Contest) -> Peak:
        """Settle, then score in float64 every row that may win; keep the tied best for `champions`."""
        rejected = self._settle(contest.sequence, contest.accepted)
        acquisition = self._started.acquisition
        none = torch.zeros(self.dim, acquisition.num_tracks, 1, dtype=torch.float64)
        kernel = BlockKernel.prepare(self._started, none, contest.threshold, self.features.device)
        gains, indices, best = [], [], float("-inf")
        for rows, features in self._chunks():
            self._take_back(rows, features, rejected)
            margins = kernel.base(self.num[rows], self.den[rows], self.norms[rows])
            local = torch.nonzero((margins[:, 0] > 0) & ~self.held[rows]).flatten()
            if not len(local):
                continue
            gain = acquisition.gain(contest.state.scores(features[local].to("cpu", torch.float64)))
            best = max(best, float(gain.max()))
            near = gain >= best - acquisition.tie_width(best, contest.state.gain_scale)
            gains.append(gain[near])
            indices.append(local.cpu()[near] + rows.start)
        self._tied = (torch.cat(gains), torch.cat(indices)) if gains else None
        self._sequence = contest.sequence + 1
        return Peak(best)

    def champions(self, floor: float) -> RowBatch:
        """Return the row of the smallest id among the last contest's rows with gain >= floor (or no row)."""
        chosen = torch.empty(0, dtype=torch.int64)
        if self._tied is not None:
            gain, indices = self._tied
            tied = indices[gain >= floor]
            if len(tied):
                chosen = tied[int(np.argsort(self.ids[tied.numpy()], kind="stable")[0])][None]
        self._tied = None
        self.held[chosen] = True
        return self._batch(chosen, self.num[chosen], self.den[chosen])

    def rank(self, query: RankQuery) -> RankedRows:
        """Return this shard's best rows of a one-shot ranking; touches no state. One pass."""
        best = rank_features(self.features, self.ids, query)
        distinct, inverse = np.unique(np.concatenate([indices for indices, _ in best]), return_inverse=True)
        none = torch.zeros(len(distinct), dtype=torch.float64)
        rows = self._rows_at(torch.as_tensor(distinct), Scores(none, none))
        ends = np.cumsum([len(indices) for indices, _ in best])[:-1]
        return RankedRows(np.split(inverse, ends), [scores for _, scores in best], rows)

    def positions_of(self, row_id: int | str) -> np.ndarray:
        """Return the positions at which an id stands in this shard. O(n)."""
        return np.flatnonzero(self.ids == row_id) + self.first_position

    @property
    def _started(self) -> Start:
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
        if previous is None or accepted >= previous.shape[2]:
            return None
        return self._weights(previous[:, :, accepted:])

    def _take_back(self, rows: slice, features: Tensor, rejected: Tensor | None) -> None:
        if rejected is not None:
            self._subtract(rows, row_decrements(self._started.acquisition, features, rejected), 1.0)

    def _weights(self, columns: Tensor) -> Tensor:
        """Return columns (D x num_tracks x k) as the right-hand side of a product with rows."""
        return columns.flatten(1).to(self.features.device, self._started.dtype)

    def _subtract(self, rows: slice, decrements: Tensor, sign: float) -> None:
        dnum, dden = self._started.acquisition.split(decrements.sum(dim=2))
        self.num[rows].add_(dnum, alpha=sign)
        if dden is not None:
            self.den[rows].add_(dden, alpha=sign)

    def _best(self, count: int) -> Tensor:
        """Return indices of the best rows not held, copies thinned out, in descending order of the ratio."""
        start, wanted, floor = self._started, 2 * count, float("-inf")
        ratios = torch.empty(0, dtype=torch.float64, device=self.num.device)
        indices = torch.empty(0, dtype=torch.int64, device=self.num.device)
        for first in range(0, self.num_rows if count > 0 else 0, _SCAN_ROWS):
            rows = slice(first, min(first + _SCAN_ROWS, self.num_rows))
            ratio = (self.num[rows] + start.num.offset).div_(self.den[rows] + start.den.offset)
            ratio.masked_fill_(self.held[rows], float("-inf"))
            near = torch.nonzero(ratio > floor).flatten()
            ratios, indices = torch.cat([ratios, ratio[near]]), torch.cat([indices, near + first])
            top = torch.topk(ratios, min(wanted, len(ratios)))
            ratios, indices = top.values, indices[top.indices]
            # Once the list is full, most rows of a chunk fall below its last and need no sorting.
            floor = float(ratios[-1]) if len(ratios) == wanted else floor
        indices = indices[torch.isfinite(ratios)]
        return self._thin_copies(indices)[:count] if count < self.num_rows else indices

    def _thin_copies(self, indices: Tensor) -> Tensor:
        """Keep at most two (of the smallest ids) of rows with the same scores: copies waste a proposal."""
        key = torch.stack([self.num[indices], self.den[indices], self.norms[indices]]).to(torch.float32).cpu().numpy()
        by_id = np.argsort(self.ids[indices.cpu().numpy()], kind="stable")
        order = np.lexsort((np.argsort(by_id, kind="stable"), *key))
        new = np.ones(len(order), dtype=bool)
        new[2:] = (key[:, order[2:]] != key[:, order[:-2]]).any(axis=0)
        return indices[torch.as_tensor(np.sort(order[new], kind="stable"), device=indices.device)]

    def _batch(self, indices: Tensor, num: Tensor, den: Tensor) -> RowBatch:
        """Hand over rows with their scores, num and den completed by the constant terms."""
        start = self._started
        return self._rows_at(indices, Scores(num + start.num.offset, den + start.den.offset))

    def _rows_at(self, indices: Tensor, scores: Scores) -> RowBatch:
        local = indices.cpu()
        return RowBatch(
            positions=local.numpy() + self.first_position,
            ids=self.ids[local.numpy()],
            features=self.features.rows(indices).cpu(),
            num=scores.num.cpu(),
            den=scores.den.cpu(),
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
