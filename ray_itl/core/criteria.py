"""How rows compete for a pick."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ray_itl.core.decision import TotalOrder
from ray_itl.core.rules import Rules


@dataclass(frozen=True)
class Criteria:
    """How rows compete, the same throughout a run."""

    total_order: TotalOrder
    rules: Rules
    replacement: bool
    """Whether a row may be picked again."""
    min_gain: float = 0.0
    """Picks that are worth less for each unit of their cost end the run; 0: none does."""

    def is_worthwhile(self, gain: float, cost: float) -> bool:
        """Whether a pick is worth its cost: gains `min_gain` for each unit of it, but for the tie width."""
        if self.min_gain <= 0:
            return True
        return gain >= float(self.total_order.floor(self.min_gain, torch.tensor(cost, dtype=torch.float64)))
