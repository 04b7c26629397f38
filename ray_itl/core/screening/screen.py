"""Screen: the tracked scores of a shard's rows, and the passes by which rows are excluded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.feature_store import FeatureStore, RoomForCopies, memory_beside
from ray_itl.core.messages import Precision, ScoreSpec
from ray_itl.core.screening.arithmetic import Arithmetic, Columns
from ray_itl.core.screening.copies import FloatCopies, IntegerCopies, RowCopies
from ray_itl.core.screening.kernels import BlockKernel, Known, RowFacts, prepare_kernel, score_scales
from ray_itl.core.screening.theorem import Tally, form_bounds

_CHECK = 1e-9
_REPLAY_COLUMNS = 128


def copy_rows(
    features: FeatureStore, precision: Precision, norms: Tensor, room: RoomForCopies | None = None
) -> RowCopies:
    """Return copies of rows for a precision of the screen. At most one pass.

    Args:
        features: The rows.
        precision: Of the screen.
        norms: |x|^2 of the rows.
        room: Where copies are kept; None: in memory.
    """
    room = room or memory_beside(features)
    return IntegerCopies(features, norms, room) if precision == "int8" else FloatCopies(features, precision, room)


class Screen:
    """What a shard tracks of n rows in a run.

    A tracked score is a score's part that depends on more than |x|^2: what known rows, targets and picks have removed,
    or what targets add. It is that of the row's copy, and may be off by `Tally.errors`.
    """

    def __init__(self, spec: ScoreSpec, copies: RowCopies, norms: Tensor, costs: Tensor | None) -> None:
        """Begin before the first pick; a pass, where there is anything to multiply. O(n D r).

        Args:
            spec: Of the run.
            copies: Of the rows.
            norms: |x|^2, n float64.
            costs: n float64; None where every row costs 1.
        """
        self.spec = spec
        self.tracked: Scores = tuple(torch.zeros_like(norms) for _ in spec.quadratics)
        self._copies = copies
        self._norms = norms
        self._costs = costs
        self._mean_norm = _mean(norms)
        self._tally = Tally(spec, copies.arithmetic)
        self._begin()

    def _begin(self) -> None:
        factors: list[tuple[Tensor, Columns, list[int]]] = []
        for score, form in enumerate(self.spec.quadratics):
            # Before anything is known, what targets take is what they leave out: both scores have one factor.
            same = next((scores for factor, _, scores in factors if torch.equal(factor, form.factor)), None)
            if same is not None:
                same.append(score)
            elif form.factor.shape[1]:
                columns = self._copies.arithmetic.columns(form.factor[:, None], self._norms.device)
                factors.append((form.factor, columns, [score]))
        for _, columns, scores in factors:
            for score in scores:
                self._tally.began(score, columns)
        for rows, chunk in self._copies.chunks() if factors else ():
            units = self._copies.units(rows)
            for _, columns, scores in factors:
                squares = started(self._copies.arithmetic, 1.0, columns, chunk, units)
                for score in scores:
                    self.tracked[score][rows] = self.spec.quadratics[score].sign * squares

    def replay(self, columns: Tensor) -> None:
        """Subtract what picks take (D x num_tracks x k float64). One pass, none for k = 0. O(n D k)."""
        parts = [self.columns(part) for part in columns.split(_REPLAY_COLUMNS, dim=2) if part.shape[2]]
        for part in parts:
            self.count(part)
        for rows, chunk in self.chunks() if parts else ():
            for part in parts:
                self.subtract(part, rows, chunk)

    @property
    def errors(self) -> list[float]:
        """How far each tracked score may be off, relative to the rows' error norms."""
        return self._tally.errors()

    def scores(self, rows: slice | Tensor) -> Scores:
        """Return scores as far as copies tell: good enough to propose rows."""
        norms = self._norms[rows]
        return tuple(e[rows] + form.scale * norms for e, form in zip(self.tracked, self.spec.quadratics, strict=True))

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Read all copies once."""
        yield from self._copies.chunks()

    def columns(self, columns: Tensor) -> Columns:
        """Prepare columns (D x num_tracks x B float64) for `subtract`."""
        return prepared(self.spec, self._copies, columns, self._norms.device)

    def count(self, columns: Columns, again: bool = False) -> None:
        """Count columns among what errors come from, before they are used; `again` before they are taken back."""
        self._tally.add(columns, again)

    def kernel(self, columns: Columns, values: Tensor) -> BlockKernel:
        """Return the kernel that tests rows against picks of some values, and subtracts the picks' columns."""
        return prepare_kernel(self.spec, columns, values, Known(self._copies.ratio, self.errors, self._mean_norm))

    def judge(self, kernel: BlockKernel, rows: slice, chunk: Tensor) -> Tensor:
        """Return which rows of a chunk are not excluded (n bool), and subtract what the kernel's columns take.

        In advance, as if all picks were true: settling the few that are not is cheaper than a pass of its own.
        """
        verdict = kernel.judge(self._drops(kernel.columns, chunk), self._facts(rows))
        for score, lost in zip(self.tracked, verdict.lost, strict=True):
            score[rows] -= lost
        return verdict.doubtful

    def subtract(self, columns: Columns, rows: slice, chunk: Tensor, sign: float = 1.0) -> None:
        """Subtract what columns take from a chunk's scores, or add it back (sign -1)."""
        acquisition = self.spec.acquisition
        drops = self._drops(columns, chunk).sum(dim=2).to(torch.float64)
        units = self._copies.units(rows)
        if units is not None:
            drops *= units.square()[:, None]
        scales = score_scales(self.spec, columns.scales).tolist()
        for score, track, scale in zip(self.tracked, acquisition.score_tracks, scales, strict=True):
            score[rows].sub_(drops[:, track], alpha=sign * scale)

    def holds(self, indices: Tensor, scores: Scores) -> bool:
        """Whether exact scores of some rows are within what the bound says of them. It never fails, or is wrong."""
        spec = self.spec
        if not spec.acquisition.is_certified:
            return True
        norms = self._norms[indices].cpu()
        error_norms = self._copies.error_norms(indices, self._norms[indices]).cpu()
        exact = [score - form.scale * norms for score, form in zip(scores, spec.quadratics, strict=True)]
        seen = [score[indices].cpu() for score in self.tracked]
        spare = [error + _CHECK for error in self.errors]
        bounds = form_bounds(spec, seen, error_norms, self._copies.ratio, spare)
        for weights, lower, upper in zip(spec.acquisition.forms, *bounds, strict=True):
            true = torch.stack([w * score for w, score in zip(weights, exact, strict=True)]).sum(dim=0).clamp_min(0)
            if bool(((true < lower * (1 - _CHECK)) | (true > upper * (1 + _CHECK))).any()):
                return False
        return True

    def _drops(self, columns: Columns, chunk: Tensor) -> Tensor:
        return self.spec.acquisition.products_(self._copies.arithmetic.products(chunk, columns))

    def _facts(self, rows: slice) -> RowFacts:
        norms = self._norms[rows]
        return RowFacts(
            tuple(score[rows] for score in self.tracked),
            norms,
            self._copies.error_norms(rows, norms),
            self._copies.units(rows),
            None if self._costs is None else self._costs[rows],
        )


class Trial:
    """A screen of which nothing is kept: each chunk of rows is taken through all blocks of a selection that is over."""

    def __init__(self, spec: ScoreSpec, copies: RowCopies, norms: Tensor, blocks: Sequence[Tensor]) -> None:
        """Prepare blocks of columns, each D x num_tracks x B float64."""
        self._spec = spec
        self._copies = copies
        self._norms = norms
        arithmetic, device = copies.arithmetic, norms.device
        self._factors = [arithmetic.columns(form.factor[:, None], device) for form in spec.quadratics]
        self._columns = [prepared(spec, copies, columns, device) for columns in blocks]
        tally, self._known = Tally(spec, arithmetic), []
        for score, factor in enumerate(self._factors):
            tally.began(score, factor)
        for columns in self._columns:
            tally.add(columns)
            self._known.append(Known(copies.ratio, tally.errors(), _mean(norms)))

    def doubts(self, rows: slice, chunk: Tensor, best: Sequence[Tensor], costs: Tensor | None) -> Iterator[Tensor]:
        """Yield for each block which rows of a chunk may beat or tie with values (B each; -inf: all do): n bool."""
        norms, units = self._norms[rows], self._copies.units(rows)
        costs = None if costs is None else costs.to(norms.device)
        error_norms = self._copies.error_norms(rows, norms)
        tracked = tuple(
            started(self._copies.arithmetic, form.sign, factor, chunk, units)
            for form, factor in zip(self._spec.quadratics, self._factors, strict=True)
        )
        for columns, known, values in zip(self._columns, self._known, best, strict=True):
            unknown = torch.isneginf(values)
            kernel = prepare_kernel(self._spec, columns, values.where(~unknown, 0.0), known)
            drops = self._spec.acquisition.products_(self._copies.arithmetic.products(chunk, columns))
            verdict = kernel.judge(drops, RowFacts(tracked, norms, error_norms, units, costs))
            yield verdict.doubtful | bool(unknown.any())
            tracked = tuple(score - lost for score, lost in zip(tracked, verdict.lost, strict=True))


def prepared(spec: ScoreSpec, copies: RowCopies, columns: Tensor, device: torch.device) -> Columns:
    """Return picks' columns (D x num_tracks x B float64) for products with copies."""
    return copies.arithmetic.columns(columns, device, any(each.mixes for each in spec.acquisition.step_products))


def started(arithmetic: Arithmetic, sign: float, factor: Columns, chunk: Tensor, units: Tensor | None) -> Tensor:
    """Return sign |y F|^2 of copies y, n float64."""
    if not factor.num_steps:
        return torch.zeros(len(chunk), dtype=torch.float64, device=chunk.device)
    found = arithmetic.products(chunk, factor).square_().sum(dim=(1, 2)).to(torch.float64)
    found *= float(factor.scales[0]) ** 2 * sign
    return found if units is None else found.mul_(units.square())


def _mean(norms: Tensor) -> float:
    return float(norms.mean()) if len(norms) else 1.0
