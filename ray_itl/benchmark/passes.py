"""Timing verify passes beside the bare matrix product that they cannot do without."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import torch

from ray_itl.core.messages import Block, BlockReport
from ray_itl.core.pool import LocalPool
from ray_itl.core.shard import PoolShard


@dataclass(frozen=True)
class PassCost:
    """One verify pass."""

    num_columns: int
    """Columns of the product X W."""
    seconds: float
    bare_seconds: float
    """X W alone: the same shape, chunks and threads, measured just before."""
    rejected: bool
    """Whether the pass also took back picks of the block before it, at the cost of a second product."""


@dataclass
class TimedPool(LocalPool):
    """A pool of one shard that times every verify pass and the bare product of the same shape."""

    shard: PoolShard
    costs: list[PassCost] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the pool."""
        super().__init__([self.shard])
        self._previous_size = 0

    def verify(self, block: Block) -> BlockReport:
        """Verify, timed."""
        weights = block.columns.flatten(1).to(self.shard.features.dtype)
        bare = self._bare_product(weights)
        began = time.perf_counter()
        report = super().verify(block)
        seconds = time.perf_counter() - began
        rejected = block.sequence > 0 and block.accepted < self._previous_size
        self.costs.append(PassCost(weights.shape[1], seconds, bare, rejected))
        self._previous_size = block.size
        return report

    def ratio(self, with_rejected: bool) -> float:
        """Return the median over passes of verify seconds to bare seconds."""
        chosen = [c for c in self.costs if with_rejected or not c.rejected]
        return statistics.median(c.seconds / c.bare_seconds for c in chosen) if chosen else float("nan")

    def _bare_product(self, weights: torch.Tensor) -> float:
        began = time.perf_counter()
        for _, rows in self.shard.features.chunks():
            torch.mm(rows, weights)
        return time.perf_counter() - began
