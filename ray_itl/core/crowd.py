"""The rows of a shard that may tie for the next pick, where too many lie within the error band to be handed over."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ray_itl.core.acquisition import tie_width


@dataclass(frozen=True)
class Crowd:
    """Rows that come close to the best of their shard."""

    gains: Tensor
    """Exact, k float64."""
    indices: Tensor
    """k int64."""
    gain_scale: float
    """See `AcquisitionState`."""

    def tied_with(self, best: float, prices: Tensor) -> Tensor:
        """Return the indices of rows whose gain over price ties with a value, or beats it."""
        needed = best * prices
        return self.indices[self.gains >= needed - tie_width(needed, self.gain_scale)]
