"""One pass over rows for the runner-up of every pick: which rows come next, if the pick is left out?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Quadratic
from ray_itl.core.decision import Judge
from ray_itl.core.messages import RowBatch, Start, merge_batches
from ray_itl.core.rival_list import RivalList
from ray_itl.core.screening import prepare_kernel
from ray_itl.core.store import FeatureStore

_BLOCK = 64


@dataclass(frozen=True)
class RivalQuery:
    """Ask for the best row but the pick at each of n steps of a selection that is over."""

    start: Start
    """The scores before the first pick, and the precision of the screen."""
    columns: Tensor
    """What each pick subtracts, D x num_tracks x n float64."""
    picks: np.ndarray
    """Positions of the picks, n int64."""
    excluded: np.ndarray
    """Positions of rows that could not be picked."""
    replacement: bool
    """Whether a row could be picked again: then only the pick itself is left out of a step, not those before it."""


@dataclass(frozen=True)
class Rivals:
    """Rows that may be the runner-up of some step: the k-th pair says that row `places[k]` may be that of `steps[k]`.

    The runner-up of a step, if there is one, is among its pairs; where more than 64 rows of a shard are closer to the
    best than rounding can tell, the best of them and the 64 of the smallest ids stand for all.
    """

    steps: np.ndarray
    places: np.ndarray
    """Indices into `rows`."""
    rows: RowBatch
    """Distinct rows, by position; without scores."""


def merge_rivals(parts: Sequence[Rivals]) -> Rivals:
    """Join what the shards found."""
    offsets = np.cumsum([0] + [len(part.rows) for part in parts])
    places = [part.places + offset for part, offset in zip(parts, offsets, strict=False)]
    rows = merge_batches([part.rows for part in parts])
    return Rivals(np.concatenate([part.steps for part in parts]), np.concatenate(places), rows)


def find_rivals(
    features: FeatureStore, ids: np.ndarray, norms: Tensor, first_position: int, query: RivalQuery
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a step and the index of a row that may be its runner-up among these rows (see `Rivals`).

    Every row is screened at every step against the best found so far, as `verify` does; rows that pass at some step are
    scored at all of them in float64. One pass, O(N D n); memory for one chunk and 64 steps.
    """
    search = _Search(ids, norms, first_position, query)
    for rows, chunk in features.chunks():
        search.look_at(rows, chunk)
    return search.found.result()


class _Search:
    """The rivals found so far."""

    def __init__(self, ids: np.ndarray, norms: Tensor, first_position: int, query: RivalQuery) -> None:
        self._query = query
        self._norms = norms
        self._judge = Judge(query.start.acquisition, query.start.magnitudes)
        self._barred = np.zeros(len(ids), dtype=bool)
        self._picked = np.zeros(len(ids), dtype=bool)
        for mask, positions in ((self._barred, query.excluded), (self._picked, query.picks)):
            local = positions - first_position
            mask[local[(local >= 0) & (local < len(ids))]] = True
        self._first_position = first_position
        self.found = RivalList(query.columns.shape[2], ids, query.start.gain_scale)

    def look_at(self, rows: slice, chunk: Tensor) -> None:
        """Take in the rivals of one chunk."""
        challenged = self._screen(rows, chunk) & torch.from_numpy(~self._barred[rows])
        some = torch.nonzero(challenged).flatten()
        if len(some):
            self._score(some + rows.start, chunk[some.to(chunk.device)].to("cpu", torch.float64))

    def _screen(self, rows: slice, chunk: Tensor) -> Tensor:
        """Return which rows may beat or tie with the best found so far at some step."""
        start = self._query.start
        features, norms = chunk.to(start.dtype), self._norms[rows]
        challenged = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        if bool(torch.isneginf(self.found.best).any()):
            return ~challenged.cpu()
        scores = tuple(_terms(form, features, norms) for form in start.quadratics)
        for steps, columns in self._blocks():
            best = self.found.best[steps.start : steps.stop]
            kernel = prepare_kernel(start, columns, best, features.device)
            decrements = kernel.decrements(features)
            challenged |= kernel.margins(scores, norms, None, decrements).amax(dim=1) > 0
            dropped = start.acquisition.decrements(decrements.sum(dim=2, keepdim=True))
            scores = tuple(score - drop[:, 0] for score, drop in zip(scores, dropped, strict=True))
        return challenged.cpu()

    def _score(self, indices: Tensor, features: Tensor) -> None:
        """Score rows at every step in float64, and keep those that may be runners-up."""
        start, norms = self._query.start, self._norms[indices.to(self._norms.device)].cpu()
        scores = tuple(_terms(form, features, norms) + form.offset for form in start.quadratics)
        for steps, columns in self._blocks():
            dots = (features @ columns.flatten(1)).view(len(features), *columns.shape[1:])
            drops = self._judge.decrements(dots)
            before = tuple(s[:, None] - (d.cumsum(dim=1) - d) for s, d in zip(scores, drops, strict=True))
            gains, errors = self._judge.gains(before), self._judge.errors(before, norms[:, None])
            self._leave_out_picks(gains, indices, steps)
            self.found.add(steps.start, indices, gains, errors)
            scores = tuple(s - d.sum(dim=1) for s, d in zip(scores, drops, strict=True))

    def _leave_out_picks(self, gains: Tensor, indices: Tensor, steps: range) -> None:
        """Rule rows out at the steps at which they were picked and, without replacement, at all later ones."""
        for k in np.flatnonzero(self._picked[indices.numpy()]):
            own = np.flatnonzero(self._query.picks == int(indices[k]) + self._first_position)
            if self._query.replacement:
                own = own[(own >= steps.start) & (own < steps.stop)] - steps.start
                gains[k, own] = float("-inf")
            else:
                gains[k, max(0, int(own[0]) - steps.start) :] = float("-inf")

    def _blocks(self) -> Iterator[tuple[range, Tensor]]:
        columns = self._query.columns
        for first in range(0, columns.shape[2], _BLOCK):
            part = columns[:, :, first : first + _BLOCK]
            yield range(first, first + part.shape[2]), part


def _terms(form: Quadratic, features: Tensor, norms: Tensor) -> Tensor:
    """Return a quadratic form of rows without its constant, float64."""
    values = norms * form.scale
    if form.factor.shape[1]:
        products = features @ form.factor.to(features.device, features.dtype)
        values = values + form.sign * products.square_().sum(dim=1, dtype=torch.float64)
    return values
