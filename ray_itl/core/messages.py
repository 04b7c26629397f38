"""Everything driver and shards say to each other: plain frozen records, cheap to pickle.

Positions are global row numbers of the pool (0..N-1); a shard owns a contiguous range of them. A run begins with a
`ScoreSpec`; then come `Request` -> `RowBatch`, `Block` -> `BlockReport`, `ExactSearch` -> float, and, once all is
picked, `RivalQuery` -> `Rivals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import TIE_REST, TIE_SHARE, Acquisition, AcquisitionState, Quadratic, Scores
from ray_itl.core.rules import OPEN, Gate, Rules
from ray_itl.core.similarity_floor import SimilarityFloor

Precision = Literal["int8", "bfloat16", "float32", "float64"]
"""What rows are screened in, from the fastest to the one that leaves the fewest in doubt."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class ScoreSpec:
    """What a shard needs to compute every row's scores to begin with, and to screen rows afterwards (`screening`).

    A rule without forms is screened in float64 by its gain, were each score i off by band |x|^2 magnitude_i. The band
    assumes rounding errors of a product's terms to be independent (hence sqrt(D); Higham and Mary 2019). The driver
    measures the true error on the rows of every pass, and ends the run when it exceeds half the band.
    """

    acquisition: Acquisition
    quadratics: tuple[Quadratic, ...]
    """The K scores of a row before the first pick, or after those that have been made."""
    precision: Precision
    gain_scale: float = 1.0
    """The size of gain beside which 1e-12 is nothing (see `decision.gain_scale`)."""
    rules: Rules | None = None
    """None where every row may be picked and costs the same."""
    form_norms: tuple[float, ...] = ()
    """Bounds on the largest eigenvalues of the rule's forms."""
    floor: SimilarityFloor | None = None
    """Rows below it may not be picked; None: all may."""

    @classmethod
    def of(
        cls,
        acquisition: Acquisition,
        state: AcquisitionState,
        precision: Precision,
        gain_scale: float = 1.0,
        rules: Rules | None = None,
        floor: SimilarityFloor | None = None,
    ) -> ScoreSpec:
        """Return what shards need for a rule in a state, in this precision or, without forms, in float64. O(D r)."""
        if not acquisition.is_certified:
            precision = "float64"
        return cls(acquisition, state.quadratics(), precision, gain_scale, rules, state.form_norms, floor)

    def at(self, state: AcquisitionState) -> ScoreSpec:
        """Return what shards need to start anew from a later state."""
        return replace(self, quadratics=state.quadratics(), form_norms=state.form_norms)

    @property
    def band(self) -> float:
        """Error bound of scores in float64 relative to |x|^2: 32 sqrt(D) eps."""
        return 32.0 * self.quadratics[0].factor.shape[0] ** 0.5 * 2.0**-53

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @cached_property
    def magnitudes(self) -> tuple[float, ...]:
        """Bounds on the scores at |x| = 1."""
        return tuple(form.magnitude for form in self.quadratics)

    @property
    def screens_linearly(self) -> bool:
        """Whether "gains more than g" is a linear condition on a row's scores, the same for all rows."""
        priced = self.rules is not None and self.rules.per_cost
        return not priced and self.acquisition.linear(torch.zeros(1, dtype=torch.float64)) is not None

    def needed(self, values: Tensor, prices: Tensor | float = 1.0) -> Tensor:
        """Return the gains below which a row neither beats nor ties a pick of some value (gain, or gain per cost).

        Two tie widths below: a row within one of the best is a tie, and the best may be one above the pick.
        """
        gains = values * prices
        # Not as a difference: values may be infinite.
        return gains * (1.0 - 2 * TIE_SHARE * gains.sign()) - 2 * TIE_REST * self.gain_scale


@dataclass(frozen=True)
class Request:
    """Ask for rows to speculate with."""

    count: int
    """How many, over all shards."""
    gate: Gate = OPEN
    """Which rows may be picked."""
    picks: Tensor | None = None
    """Features of picks accepted since the last block (k x D float64), where picks exclude rows like them."""


@dataclass(frozen=True)
class Block:
    """One pass over the pool: settle the previous block, then verify this one."""

    sequence: int
    """Number of this block; a shard that has not seen sequence - 1 raises StaleShardError."""
    accepted: int
    """How many picks of the previous block are true; a shard takes back the rest."""
    columns: Tensor
    """D x num_tracks x B float64: what each speculated pick subtracts."""
    values: Tensor
    """The value of each speculated pick (its gain, or gain per cost), B float64; infinity where it is decided."""
    released: np.ndarray
    """Positions the driver no longer holds."""
    num_proposals: int
    """How many new rows the pool should propose for the next block, over all shards."""
    max_challengers: int
    """How many challengers the pool may return, over all shards, before it cuts the block."""
    state: AcquisitionState
    """Before the block: by it rows in doubt are scored exactly."""
    gate: Gate = OPEN
    """Which rows may be picked at each step, and after the last: of B + 1 moments where there are rules."""
    picks: Tensor | None = None
    """Features of the speculated picks (B x D float64), where picks exclude rows like them."""

    @property
    def size(self) -> int:
        """B, the number of speculated picks."""
        return self.columns.shape[2]

    @property
    def next_request(self) -> Request:
        """What rows to propose for the next block, should all of this one be true."""
        return Request(self.num_proposals, self.gate.last(), self.picks)


@dataclass(frozen=True)
class RowBatch:
    """Rows a shard hands to the driver, which from then on holds them (k rows)."""

    positions: np.ndarray
    """int64, k."""
    ids: np.ndarray
    """Row ids, int64, uint64 or numpy StringDType, k."""
    features: Tensor
    """k x D in the storage dtype."""
    scores: Scores
    """Screened scores, K times k float64: by those of a rule without forms the driver audits the band."""
    costs: Tensor
    """k float64."""
    groups: Tensor
    """k int64."""

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, places: np.ndarray) -> RowBatch:
        """Return the rows at some places, in that order."""
        at = torch.from_numpy(places)
        scores = tuple(score[at] for score in self.scores)
        return RowBatch(
            self.positions[places], self.ids[places], self.features[at], scores, self.costs[at], self.groups[at]
        )


@dataclass(frozen=True)
class BlockReport:
    """What one pass found."""

    challengers: RowBatch
    """Rows that beat or tie with a pick, up to float64 rounding; exact scores as before the block."""
    verified_steps: int
    """Steps below this have all their challengers reported; less than B when there were too many."""
    proposals: RowBatch
    """Best rows by the scores after the whole block (screened scores as after it)."""
    num_doubtful: int = 0
    """Rows that screening did not exclude, and that were scored exactly."""
    holds: bool = True
    """Whether all these were where the proof says; False is a fault of the program or of memory."""


@dataclass(frozen=True)
class ExactSearch:
    """An exact float64 search for the next pick, for when a screen cannot separate the rows."""

    sequence: int
    accepted: int
    """How many picks of the previous block are true."""
    state: AcquisitionState
    """The state after all accepted picks."""
    value: Tensor
    """Value of the driver's best held row (1 float64): rows clearly below it need no look."""
    gate: Gate = OPEN
    """Which rows may be picked."""


def merge_batches(batches: list[RowBatch]) -> RowBatch:
    """Concatenate batches in the order given (at least one)."""
    return RowBatch(
        positions=np.concatenate([b.positions for b in batches]),
        ids=np.concatenate([b.ids for b in batches]),
        features=torch.cat([b.features for b in batches]),
        scores=tuple(torch.cat(parts) for parts in zip(*(b.scores for b in batches), strict=True)),
        costs=torch.cat([b.costs for b in batches]),
        groups=torch.cat([b.groups for b in batches]),
    )


@dataclass(frozen=True)
class RivalQuery:
    """Ask for the best row but the pick at each of n steps of a selection that is over."""

    start: ScoreSpec
    """The scores before the first pick, the precision of the screen, and the rules of the run."""
    columns: Tensor
    """What each pick subtracts, D x num_tracks x n float64."""
    picks: np.ndarray
    """Positions of the picks, n int64."""
    features: Tensor
    """Of the picks, n x D float64."""
    gate: Gate
    """Which rows could be picked at each step, by what they cost: n moments."""
    excluded: np.ndarray
    """Positions of rows that could not be picked."""
    replacement: bool
    """Whether a row could be picked again: then only the pick itself is left out of a step, not those before it."""


@dataclass(frozen=True)
class Rivals:
    """Rows that may be the runner-up of some step: the k-th pair says that row `places[k]` may be that of `steps[k]`.

    All could have been picked at that step. The runner-up, if there is one, is among its pairs; where more than 64 rows
    of a shard are closer to the best than rounding can tell, the best of them and the 64 of the smallest ids stand for
    all.
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
