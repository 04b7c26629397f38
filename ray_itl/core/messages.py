"""What the driver and the shards say to each other: plain frozen records, cheap to pickle.

Positions are global row numbers of the pool (0..N-1); shards own contiguous position ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition, AcquisitionState, Quadratic

Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Start:
    """What a shard needs to compute every row's scores before the first pick, and to screen rows afterwards.

    A row challenges a threshold tau when num - tau den > -band |x|^2 (num_magnitude + tau den_magnitude): exact
    arithmetic could then put it above. The band assumes rounding errors of a product's terms to be independent
    (hence sqrt(D); Higham and Mary 2019). The driver measures the true error on the rows of every pass, and moves
    to float64 when it exceeds half the band.
    """

    acquisition: Acquisition
    num: Quadratic
    den: Quadratic
    precision: Precision

    @property
    def band(self) -> float:
        """Error bound of screened scores relative to |x|^2: 4 sqrt(D) eps32, or 32 sqrt(D) eps64."""
        dim = self.num.factor.shape[0]
        if self.precision == "float32":
            return 4.0 * dim**0.5 * 2.0**-24
        return 32.0 * dim**0.5 * 2.0**-53

    @property
    def dtype(self) -> torch.dtype:
        """The screening precision as a torch dtype."""
        return torch.float32 if self.precision == "float32" else torch.float64

    @cached_property
    def magnitudes(self) -> tuple[float, float]:
        """Bounds on num and den at |x| = 1."""
        return self.num.magnitude, self.den.magnitude


@dataclass(frozen=True)
class Block:
    """One pass over the pool: settle the previous block, then verify this one."""

    sequence: int
    """Number of this block; a shard that has not seen sequence - 1 raises StaleShardError."""
    accepted: int
    """How many picks of the previous block stand; a shard takes back the rest."""
    columns: Tensor
    """D x num_tracks x B float64: what each speculated pick subtracts."""
    thresholds: Tensor
    """tau_k, B float64; infinity where step k is already decided."""
    released: np.ndarray
    """Positions the driver no longer holds."""
    num_proposals: int
    """How many new rows the pool should propose for the next block, over all shards."""
    max_challengers: int
    """How many challengers the pool may return, over all shards, before it cuts the block."""

    @property
    def size(self) -> int:
        """B, the number of speculated picks."""
        return self.columns.shape[2]


@dataclass(frozen=True)
class RowBatch:
    """Rows a shard hands to the driver, which from then on holds them (k rows)."""

    positions: np.ndarray
    """int64, k."""
    ids: np.ndarray
    """Row ids, int64 or numpy StringDType, k."""
    features: Tensor
    """k x D in the storage dtype."""
    num: Tensor
    """Screened numerators, k float64, by which the driver audits the error band."""
    den: Tensor
    """Screened denominators, k float64."""

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class BlockReport:
    """What one pass found."""

    challengers: RowBatch
    """Rows that might beat a threshold; screened scores as before the block."""
    verified_steps: int
    """Steps below this have all their challengers reported; less than B when there were too many."""
    proposals: RowBatch
    """Best rows by the scores after the whole block (screened scores as after it)."""


@dataclass(frozen=True)
class Contest:
    """An exact float64 search for the next pick, for when a screen cannot separate the rows."""

    sequence: int
    accepted: int
    """How many picks of the previous block stand."""
    state: AcquisitionState
    """The state after all accepted picks."""
    threshold: Tensor
    """tau of the driver's best held row (1 float64): rows clearly below it need no look."""


class Peak(NamedTuple):
    """The best exact gain among a shard's rows, -inf when none can win."""

    gain: float


def merge_batches(batches: list[RowBatch]) -> RowBatch:
    """Concatenate batches in the order given (at least one)."""
    return RowBatch(
        positions=np.concatenate([b.positions for b in batches]),
        ids=np.concatenate([b.ids for b in batches]),
        features=torch.cat([b.features for b in batches]),
        num=torch.cat([b.num for b in batches]),
        den=torch.cat([b.den for b in batches]),
    )
