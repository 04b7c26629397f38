"""Rows that screening leaves in doubt, scored exactly against a block of speculated picks."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.decision import TotalOrder
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import Block, ScoreSpec


def challenges_among(rows: Tensor, block: Block, spec: ScoreSpec, prices: Tensor) -> tuple[Scores, Scores, Tensor]:
    """Return exact scores of rows before and after a block, and which picks each beats or may tie with.

    Args:
        rows: k x D float64.
        block: B speculated picks, and the rule's state before them.
        spec: Of the run.
        prices: By what gains are divided, k float64.

    Returns:
        (K times k, K times k, k x B bool). O(k D (r + B)).
    """
    total_order = TotalOrder(spec.acquisition, spec.magnitudes, spec.gain_scale)
    before = block.state.scores(rows)
    dots = (rows @ block.columns.flatten(1)).view(len(rows), *block.columns.shape[1:])
    drops = total_order.decrements(dots)
    scores = tuple(b[:, None] - (d.cumsum(dim=1) - d) for b, d in zip(before, drops, strict=True))
    reach = torch.add(*total_order.bounded_gains(scores, squared_norms(rows)[:, None]))
    after = tuple(b - d.sum(dim=1) for b, d in zip(before, drops, strict=True))
    return before, after, reach >= spec.needed(block.values[None], prices[:, None])
