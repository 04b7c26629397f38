"""What the driver holds: rows of the pool that may be the next picks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.decision import ROUNDING
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.messages import RowBatch, ScoreSpec
from ray_itl.core.screening.arithmetic import Columns, FloatArithmetic
from ray_itl.core.screening.kernels import Known, RowFacts, prepare_kernel
from ray_itl.core.screening.screen import Screen, copy_rows
from ray_itl.core.screening.theorem import block_errors

_ROWS_AT_ONCE = 2048
_SMALLEST, _LARGEST = 2.0**-60, 2.0**60
"""Squared norms, and scores at |x| = 1, between which no product comes near the ends of float32."""

Drops = Iterable[tuple[slice, Tensor]]
"""What picks take from candidates: of some rows at a time n x P x b, as a rule's `products_` returns it."""


class CandidateSet:
    """Candidates, each with its features and its scores given the picks; their order means nothing.

    They are screened as a shard's rows are (see `screening`): in float32, where the pool is in no more digits and the
    rule has forms, products of all candidates exclude most of them, by a proof, and the others are scored exactly. Else
    all are exact, and so they are where there are few.

    Features live in one buffer with rows to spare. A set comes and goes with every pass, and copying all of it each
    time would cost more than the speculation itself: rows are appended in place, and holes filled from the end.
    """

    def __init__(self, spec: ScoreSpec, magnitudes: Sequence[float], focus: int) -> None:
        """Begin with no rows.

        Args:
            spec: Of the run.
            magnitudes: Bounds on the scores at |x| = 1.
            focus: How many rows are scored exactly before the others are compared with them.
        """
        self.focus = focus
        self._spec = replace(spec, precision="float32")
        self._rounding = [ROUNDING * magnitude for magnitude in magnitudes]
        self._trusts_float32 = spec.acquisition.is_certified and max(magnitudes) < _LARGEST
        self._buffer = torch.empty(0, spec.quadratics[0].factor.shape[0], dtype=torch.float32)
        self.positions = np.empty(0, dtype=np.int64)
        self.ids = np.empty(0, dtype=np.int64)
        self.norms = torch.empty(0, dtype=torch.float64)
        self.costs = torch.empty(0, dtype=torch.float64)
        self.groups = torch.empty(0, dtype=torch.int64)
        self.scores = BoundedScores.exactly((self.norms,) * len(spec.quadratics))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def features(self) -> Tensor:
        """Features, k x D float32 or float64: a view that the next `add` or `keep` overwrites."""
        return self._buffer[: len(self)]

    def rows(self, places: Tensor | list[int]) -> Tensor:
        """Return a copy of the features of some rows, float64."""
        return self.features[places].to(torch.float64)

    @property
    def is_screened(self) -> bool:
        """Whether products of all candidates are in float32, and prove what they exclude."""
        return self._trusts_float32 and self._buffer.dtype == torch.float32 and len(self) > 2 * self.focus

    def distrust_float32(self) -> None:
        """Compute in float64 from now on: float32 tells too few candidates apart."""
        self._trusts_float32 = False

    def add(self, batch: RowBatch, norms: Tensor, scores: BoundedScores) -> None:
        """Append the k rows of a batch.

        Args:
            batch: The rows.
            norms: |x|^2, k float64.
            scores: Of the rows.
        """
        old = len(self)
        self._reserve(old + len(batch), batch.features.dtype)
        self._buffer[old : old + len(batch)] = batch.features
        self.positions = np.concatenate([self.positions, batch.positions])
        self.ids = np.concatenate([self.ids, batch.ids]) if len(self.ids) else batch.ids
        self.norms = torch.cat([self.norms, norms])
        self.costs = torch.cat([self.costs, batch.costs])
        self.groups = torch.cat([self.groups, batch.groups])
        self.scores = self.scores.joined(scores)

    def keep(self, mask: Tensor) -> np.ndarray:
        """Keep only the rows of a mask (k bool); returns the positions dropped."""
        chosen = mask.numpy()
        dropped = self.positions[~chosen]
        size = len(self) - len(dropped)
        holes, movers = np.flatnonzero(~chosen[:size]), size + np.flatnonzero(chosen[size:])
        order = np.arange(size)
        order[holes] = movers
        self._buffer[torch.from_numpy(holes)] = self._buffer[torch.from_numpy(movers)]
        self.positions, self.ids = self.positions[order], self.ids[order]
        index = torch.from_numpy(order)
        self.norms, self.costs, self.groups = self.norms[index], self.costs[index], self.groups[index]
        self.scores = self.scores.kept(index)
        return dropped

    def keep_best(self, limit: int, values: Tensor, always: int | None) -> np.ndarray:
        """Keep the rows of largest value.

        Args:
            limit: How many.
            values: k.
            always: A row to keep whatever its value, if any.

        Returns:
            The positions dropped.
        """
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.topk(values, min(limit, len(self))).indices] = True
        if always is not None:
            mask[always] = True
        return self.keep(mask)

    def score(self, batch: RowBatch, norms: Tensor, start: ScoreSpec, columns: Tensor) -> BoundedScores | None:
        """Return scores of rows to be added, as a shard would know them in float32; None where they must be exact.

        Args:
            batch: k rows.
            norms: |x|^2, k float64.
            start: What scores start from.
            columns: What picks since have taken, D x num_tracks x j. O(k D (r + j)).
        """
        usual = (norms == 0) | ((norms > _SMALLEST) & (norms < _LARGEST))
        self._trusts_float32 &= bool(usual.all()) and batch.features.dtype != torch.float64
        if not self._trusts_float32 or len(self) + len(batch) <= 2 * self.focus:
            return None
        features = MemoryFeatures(batch.features)
        screen = Screen(replace(start, precision="float32"), copy_rows(features, "float32", norms), norms, None)
        screen.replay(columns)
        return BoundedScores.within(screen.scores(slice(None)), screen.errors)

    def all_exactly(self, scores: BoundedScores, state: AcquisitionState) -> BoundedScores:
        """Return scores that are exact of all candidates (see `exactly`)."""
        return self.exactly(scores, torch.arange(len(self)), state)

    def exactly(self, scores: BoundedScores, places: Tensor, state: AcquisitionState) -> BoundedScores:
        """Return scores that are exact at some places, given the state that they are of. O(D r) each.

        Where one was not within its bound, by a fault of the program or of memory, float32 is not trusted any more.
        """
        places = places[~scores.exact[places]]
        if not len(places):
            return scores
        parts = [state.scores(self.rows(some)) for some in places.split(_ROWS_AT_ONCE)]
        found, norms = tuple(torch.cat(part) for part in zip(*parts, strict=True)), self.norms[places]
        told = zip(scores.at(places), found, scores.errors, self._rounding, strict=True)
        if not all(bool(((old - new).abs() <= (off + spare) * norms).all()) for old, new, off, spare in told):
            self.distrust_float32()
        return scores.with_exact(places, found)

    def prepared(self, columns: Tensor) -> Columns:
        """Prepare picks' columns (D x num_tracks x b float64) for products with all candidates."""
        if self.is_screened:
            return FloatArithmetic(torch.float32).columns(columns, columns.device)
        _, tracks, steps = columns.shape
        return Columns(columns.flatten(1), tracks, steps, torch.ones(tracks, dtype=torch.float64), norms=(), gaps=())

    def drops(self, columns: Columns) -> Iterator[tuple[slice, Tensor]]:
        """Yield what picks take (see `Drops`), in the columns' type. O(k D b)."""
        dtype = columns.right.dtype
        arithmetic = FloatArithmetic(dtype)
        for rows in self._slices():
            products = arithmetic.products(self._buffer[rows].to(dtype), columns)
            yield rows, self._spec.acquisition.products_(products)

    def after(self, scores: BoundedScores, columns: Columns, drops: Drops, count: int) -> BoundedScores:
        """Return the scores after the first picks of some columns, of which all take `drops`."""
        values = tuple(score.clone() for score in scores.values)
        for rows, part in drops:
            for score, drop in zip(values, self._spec.acquisition.decrements(part), strict=True):
                score[rows] -= drop[:, :count].sum(dim=1)
        if columns.right.dtype == torch.float64:
            return BoundedScores(values, scores.exact, scores.errors)
        return BoundedScores.within(values, self._errors(scores, columns))

    def doubts(self, scores: BoundedScores, values: Tensor, columns: Columns, drops: Drops) -> Tensor:
        """Return which candidates may beat or tie with picks of some values, each at its step: k bool.

        Args:
            scores: Before the first of the picks.
            values: b float64; -inf: any candidate may.
            columns: Of the picks.
            drops: What the picks take.
        """
        spec, doubtful = self._spec, torch.ones(len(self), dtype=torch.bool)
        if bool(torch.isneginf(values).any()):
            return doubtful
        errors = [off + spare for off, spare in zip(self._errors(scores, columns), self._rounding, strict=True)]
        kernel = prepare_kernel(spec, columns, values, Known(0.0, errors, float(self.norms.mean())))
        for rows, part in drops:
            norms = self.norms[rows]
            forms = zip(scores.values, spec.quadratics, strict=True)
            tracked = tuple(score[rows] - form.scale * norms for score, form in forms)
            doubtful[rows] = kernel.judge(part, RowFacts(tracked, norms, norms, None, self.costs[rows])).doubtful
        return doubtful

    def near(self, scores: BoundedScores, value: float) -> Tensor:
        """Return which candidates may reach or tie with a value: k bool."""
        acquisition = self._spec.acquisition
        columns = self.prepared(torch.empty(self._buffer.shape[1], acquisition.num_tracks, 0, dtype=torch.float64))
        nothing = torch.empty(len(self), acquisition.num_products, 0)
        drops = ((rows, nothing[rows]) for rows in self._slices())
        return self.doubts(scores, torch.tensor([value], dtype=torch.float64), columns, drops)

    def _errors(self, scores: BoundedScores, columns: Columns) -> list[float]:
        """Return how far scores may be off after picks of some columns."""
        more = block_errors(self._spec.acquisition, columns, FloatArithmetic(torch.float32).unit)
        return [off + new for off, new in zip(scores.errors, more, strict=True)]

    def _slices(self) -> Iterator[slice]:
        for first in range(0, len(self), _ROWS_AT_ONCE):
            yield slice(first, min(first + _ROWS_AT_ONCE, len(self)))

    def _reserve(self, size: int, dtype: torch.dtype) -> None:
        wide = torch.promote_types(self._buffer.dtype, dtype)
        if size > len(self._buffer) or wide != self._buffer.dtype:
            grown = torch.empty(size + size // 2, self._buffer.shape[1], dtype=wide)
            grown[: len(self)] = self.features
            self._buffer = grown
