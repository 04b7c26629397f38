"""What a shard holds of its rows, whatever run is under way, and the questions that touch no state of one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore, RoomForCopies
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import (
    Precision,
    RivalQuery,
    Rivals,
    RowBatch,
)
from ray_itl.core.near_rows import NearQuery, NearRows, find_near
from ray_itl.core.ranking import RankedRows, RankQuery, rank_features
from ray_itl.core.rivals import find_rivals
from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.core.screening.copies import RowCopies, copy_bytes
from ray_itl.core.screening.screen import copy_rows
from ray_itl.core.similarity_floor import NearestSimilarities, SimilarityFloor


class ShardRows:
    """Rows [first_position, first_position + n) of the pool: features, ids, norms, costs and groups.

    Beside them what was computed of them is kept for as long as it may be asked for again: copies in one precision, how
    like their nearest target they are, and the last draw.
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
        self.norms = self._squared_norms() if norms is None else norms.to(features.device)
        self._costs_and_groups = costs_and_groups
        self._copies: dict[Precision, RowCopies] = {}
        self._left_out: Tensor | None = None
        self._similarities: NearestSimilarities | None = None
        self._drawn: tuple[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] | None = None

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

    def free(self, excluded: np.ndarray) -> Tensor:
        """Return which rows are there and at none of some positions of the pool: n bool."""
        free = torch.ones(self.num_rows, dtype=torch.bool, device=self.features.device)
        if self._left_out is not None:
            free &= ~self._left_out
        free[self._local(excluded)] = False
        return free

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

    def copied(self, precision: Precision) -> RowCopies:
        """Return the rows' copies in a precision, those of before where they are in it."""
        if precision not in self._copies:
            if copy_bytes(precision, self.dim):
                self._copies.clear()  # two are never in memory at once
            self._copies[precision] = copy_rows(self.features, precision, self.norms, self._room_for_copies)
        return self._copies[precision]

    def _barred(self, floor: SimilarityFloor | None) -> Tensor | None:
        """Return which rows may never be picked, as they are left out or below a floor: n bool; None for none."""
        if floor is None:
            return self._left_out
        below = ~self.similarities(floor.directions).at_least(floor.steps)
        return below if self._left_out is None else below | self._left_out

    def _local(self, positions: np.ndarray) -> Tensor:
        """Return the indices of those of some positions of the pool that are this shard's."""
        local = positions - self.first_position
        return torch.as_tensor(local[(local >= 0) & (local < self.num_rows)], device=self.features.device)

    def _rows_at(self, indices: Tensor, scores: tuple[Tensor, ...]) -> RowBatch:
        """Hand over rows with their scores."""
        local = indices.cpu()
        costs_and_groups = (
            CostsAndGroups.default(len(local)) if self._costs_and_groups is None else self._costs_and_groups.at(local)
        )
        return RowBatch(
            positions=local.numpy() + self.first_position,
            ids=self.ids[local.numpy()],
            features=self.features.rows(indices.to(self.features.device)).cpu(),
            scores=tuple(score.cpu() for score in scores),
            costs=costs_and_groups.costs,
            groups=costs_and_groups.groups,
        )

    def _squared_norms(self) -> Tensor:
        norms = torch.empty(self.num_rows, dtype=torch.float64, device=self.features.device)
        for rows, features in self.features.chunks():
            norms[rows] = squared_norms(features)
        return norms
