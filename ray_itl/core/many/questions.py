"""What shards are asked on behalf of many queries at once: each question is one pass, or a few rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.challenges import EXACT_ROWS, challenges_among
from ray_itl.core.collectors import ChallengerList
from ray_itl.core.many.best import BestRows
from ray_itl.core.messages import Block, Precision, ScoreSpec
from ray_itl.core.screening.copies import RowCopies
from ray_itl.core.screening.kernels import Known, RowFacts, prepare_kernel
from ray_itl.core.screening.screen import prepared, started
from ray_itl.core.screening.theorem import Tally
from ray_itl.core.shard import PoolShard

Place = Callable[[np.ndarray], np.ndarray]
"""Maps positions."""
_COLUMNS_AT_ONCE = 256
"""Columns that a chunk of rows is multiplied by at once: their products stay in the processor's cache."""


@dataclass(frozen=True)
class NearestRows:
    """A shard's best rows for each query by their gain before the first pick."""

    positions: list[np.ndarray]
    """For each query, best first."""
    scores: list[np.ndarray]
    """|x'E|^2 / (x'Sx + s2), float32: what gains grow with, as far as copies tell."""
    error: np.ndarray
    """For each query: of rows that are not there |x'E| / sqrt(|x|^2 + s2) is at most the root of the last score, and
    this."""

    def placed(self, place: Place) -> NearestRows:
        """Return the same with other positions."""
        return replace(self, positions=[place(rows) for rows in self.positions])


@dataclass(frozen=True)
class NearestQuestion:
    """Ask for the best rows of each query. One pass."""

    told: list[Tensor]
    """E of each query, D x m (see `Query.told`)."""
    known: Tensor
    """F, D x r, where S = I - F F'."""
    noise: float
    count: int
    """How many rows for each."""
    excluded: np.ndarray
    """Positions of rows that are passed over."""
    precision: Precision

    def placed(self, place: Place) -> NearestQuestion:
        """Return the same with other positions."""
        return replace(self, excluded=place(self.excluded))

    def answer(self, shard: PoolShard) -> NearestRows:
        """Read all rows of a shard."""
        copies, free = shard.copied(self.precision), shard.free(self.excluded)
        arithmetic, norms = copies.arithmetic, shard.norms
        groups = [self._columns(copies, group, norms.device) for group in self._groups()]
        best = [BestRows(columns.num_tracks, self.count) for columns in groups]
        factor, steepest = arithmetic.columns(self.known[:, None], norms.device), 0.0
        for rows, chunk in copies.chunks():
            units, own = copies.units(rows), norms[rows]
            errors = copies.error_norms(rows, own)
            steepest = max(steepest, float((errors / (own + self.noise)).max()))
            left = own + started(arithmetic, -1.0, factor, chunk, units)
            scale = 1.0 / (torch.minimum(left.clamp_min(0), own) + self.noise)
            scale = (scale if units is None else scale * units.square()).to(arithmetic.dtype)
            for columns, found in zip(groups, best, strict=True):
                scores = arithmetic.products(chunk, columns).square_().sum(dim=2)
                scores *= columns.scales.square().to(scores.device, scores.dtype)
                scores *= scale[:, None]
                scores[~free[rows]] = -1.0
                found.add(rows.start, scores)
        lists = [each for found in best for each in found.result()]
        slack = steepest**0.5 * (1 + 1e-5)
        error = [
            (norm * copies.ratio + gap) * slack + 1e-5 * norm
            for columns in groups
            for norm, gap in zip(columns.norms, columns.gaps, strict=True)
        ]
        positions = [indices + shard.first_position for indices, _ in lists]
        return NearestRows(positions, [scores for _, scores in lists], np.array(error))

    def _groups(self) -> list[list[Tensor]]:
        widest = max(told.shape[1] for told in self.told)
        step = max(1, _COLUMNS_AT_ONCE // widest)
        return [self.told[first : first + step] for first in range(0, len(self.told), step)]

    @staticmethod
    def _columns(copies: RowCopies, group: list[Tensor], device: torch.device):
        widest = max(told.shape[1] for told in group)
        padded = [torch.nn.functional.pad(told, (0, widest - told.shape[1])) for told in group]
        return copies.arithmetic.columns(torch.stack(padded, dim=1), device)


@dataclass(frozen=True)
class FetchedRows:
    """Some rows of a shard."""

    positions: np.ndarray
    ids: np.ndarray
    features: Tensor
    """k x D in the storage dtype."""
    norms: Tensor
    """|x|^2, k float64."""

    def placed(self, place: Place) -> FetchedRows:
        """Return the same with other positions."""
        return replace(self, positions=place(self.positions))


@dataclass(frozen=True)
class FetchQuestion:
    """Ask for rows."""

    positions: np.ndarray
    """Ascending."""

    def placed(self, place: Place) -> FetchQuestion:
        """Return the same with other positions."""
        return replace(self, positions=place(self.positions))

    def answer(self, shard: PoolShard) -> FetchedRows:
        """Return those that are the shard's."""
        local = self.positions - shard.first_position
        return fetched(shard, local[(local >= 0) & (local < shard.num_rows)])


def fetched(shard: PoolShard, local: np.ndarray) -> FetchedRows:
    """Return rows of a shard by their indices."""
    indices = torch.from_numpy(local).to(shard.norms.device)
    features, norms = shard.features.rows(indices).cpu(), shard.norms[indices].cpu()
    return FetchedRows(local + shard.first_position, shard.ids[local], features, norms)


@dataclass(frozen=True)
class Trial:
    """The picks of one query, to be tested by every row that the driver does not hold for it."""

    spec: ScoreSpec
    block: Block
    held: np.ndarray
    """Positions of rows that the driver has compared already."""


@dataclass(frozen=True)
class Verdicts:
    """What a shard says of the picks of many queries."""

    rows: FetchedRows
    """All rows that beat a pick or tie with one, and those that would gain most after the last, each once."""
    places: list[np.ndarray]
    """Indices into them, for each query."""
    verified: np.ndarray
    """For each query: of steps below this, all such rows are there."""
    doubtful: np.ndarray
    """How many rows of each query were scored exactly."""

    def placed(self, place: Place) -> Verdicts:
        """Return the same with other positions."""
        return replace(self, rows=self.rows.placed(place))


@dataclass(frozen=True)
class VerifyQuestion:
    """Ask for rows that beat a pick of some query. One pass, in which every chunk of rows meets all queries."""

    trials: Sequence[Trial]
    excluded: np.ndarray
    limit: int
    """Rows that may come back for each query, before its later steps are given up."""
    proposals: int
    """Rows to come back for each query besides, as those that would gain most after its picks."""

    def placed(self, place: Place) -> VerifyQuestion:
        """Return the same with other positions."""
        trials = [replace(trial, held=place(trial.held)) for trial in self.trials]
        return replace(self, trials=trials, excluded=place(self.excluded))

    def answer(self, shard: PoolShard) -> Verdicts:
        """Read all rows of a shard."""
        copies = shard.copied(self.trials[0].spec.precision)
        free, norms = shard.free(self.excluded), shard.norms
        screens = [_QueryScreen(trial, copies, norms) for trial in self.trials]
        found: list[list[Tensor]] = [[] for _ in screens]
        best = [BestRows(1, self.proposals) for _ in screens]
        for rows, chunk in copies.chunks():
            units, own = copies.units(rows), norms[rows]
            errors = copies.error_norms(rows, own)
            for screen, doubts, first in zip(screens, found, best, strict=True):
                doubtful, after = screen.judge(chunk, own, errors, units)
                doubtful &= free[rows]
                if bool(doubtful.any()):
                    doubts.append(torch.nonzero(doubtful).flatten() + rows.start)
                first.add(rows.start, after.nan_to_num_(-1.0).masked_fill_(~free[rows], -1.0)[:, None])
        verdicts = [self._exactly(shard, trial, doubts) for trial, doubts in zip(self.trials, found, strict=True)]
        returned = [
            np.union1d(challengers, first.result()[0][0])
            for (challengers, _, _), first in zip(verdicts, best, strict=True)
        ]
        distinct, places = np.unique(np.concatenate(returned), return_inverse=True)
        ends = np.cumsum([len(rows) for rows in returned])[:-1]
        verified, doubtful = (np.array([each[k] for each in verdicts]) for k in (1, 2))
        return Verdicts(fetched(shard, distinct), np.split(places, ends), verified, doubtful)

    def _exactly(self, shard: PoolShard, trial: Trial, doubts: list[Tensor]) -> tuple[np.ndarray, int, int]:
        """Return the rows in doubt that do challenge a step, how many steps that is all for, and how many were."""
        held = trial.held - shard.first_position
        among = np.zeros(shard.num_rows, dtype=bool)
        among[held[(held >= 0) & (held < shard.num_rows)]] = True
        indices = torch.cat(doubts).cpu() if doubts else torch.empty(0, dtype=torch.int64)
        indices = indices[~torch.from_numpy(among)[indices]]
        found = ChallengerList(trial.block.size, self.limit)
        for some in indices.split(EXACT_ROWS):
            rows = shard.features.rows(some.to(shard.norms.device)).to("cpu", torch.float64)
            prices = torch.ones(len(rows), dtype=torch.float64)
            beats = challenges_among(rows, trial.block, trial.spec, prices)[2]
            beats &= torch.isfinite(trial.block.values)
            challengers = beats.any(dim=1)
            if bool(challengers.any()):
                found.add(some[challengers], beats[challengers], ())
        return found.result(0)[0].numpy(), found.verified_steps, len(indices)


class _QueryScreen:
    """A screen of one query's picks, from before the first to after the last, of which nothing is kept."""

    def __init__(self, trial: Trial, copies: RowCopies, norms: Tensor) -> None:
        spec, arithmetic, device = trial.spec, copies.arithmetic, norms.device
        self._spec, self._arithmetic = spec, arithmetic
        self._factors = [arithmetic.columns(form.factor[:, None], device) for form in spec.quadratics]
        self._columns = prepared(spec, copies, trial.block.columns, device)
        tally = Tally(spec, arithmetic)
        for score, factor in enumerate(self._factors):
            if factor.num_steps:
                tally.began(score, factor)
        tally.add(self._columns)
        mean = float(norms.mean()) if len(norms) else 1.0
        known = Known(copies.ratio, tally.errors(), mean)
        self._kernel = prepare_kernel(spec, self._columns, trial.block.values, known)

    def judge(self, chunk: Tensor, norms: Tensor, error_norms: Tensor, units: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return which rows of a chunk are not excluded, and what their gains after the last pick grow with."""
        tracked = tuple(
            started(self._arithmetic, form.sign, factor, chunk, units)
            for form, factor in zip(self._spec.quadratics, self._factors, strict=True)
        )
        drops = self._spec.acquisition.products_(self._arithmetic.products(chunk, self._columns))
        verdict = self._kernel.judge(drops, RowFacts(tracked, norms, error_norms, units, None))
        after = tuple(
            score - lost + form.scale * norms
            for score, lost, form in zip(tracked, verdict.lost, self._spec.quadratics, strict=True)
        )
        return verdict.doubtful, self._spec.acquisition.order(after)
