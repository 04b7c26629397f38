"""Rows that screening leaves in doubt, scored exactly by their shard before they travel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.collectors import ChallengerList, TiedRows
from ray_itl.core.decision import TotalOrder
from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import Block, ExactSearch, RowBatch, ScoreSpec
from ray_itl.core.row_rules import RowRules
from ray_itl.core.screening.screen import Screen

EXACT_ROWS = 4096
"""Rows scored exactly at once."""
_AUDITED_ROWS = 64


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


class ExactScorer:
    """Scores rows of a shard in float64, from the rows themselves, and holds what screening said of them to it."""

    def __init__(self, screen: Screen, rules: RowRules | None, features: FeatureStore) -> None:
        """Look at the rows of a shard."""
        self._screen = screen
        self._rules = rules
        self._features = features

    def challenge(self, block: Block, indices: Tensor, found: ChallengerList) -> bool:
        """Add those of some rows that beat or tie with a pick. False if one is not where the proof says."""
        admitted = None
        if self._rules is not None:
            all_steps = torch.ones(len(indices), block.size, dtype=torch.bool, device=indices.device)
            admitted = self._rules.may_be_picked(indices, all_steps, block)
            some = admitted.any(dim=1)
            indices, admitted = indices[some], admitted[some].cpu()
        rows, prices = self._rows(indices), self.prices(indices)
        before, after, challenges = challenges_among(rows, block, self._screen.spec, prices)
        if admitted is not None:
            challenges &= admitted
        some = challenges.any(dim=1)
        if bool(some.any()):
            found.add(indices.cpu()[some], challenges[some], tuple(score[some] for score in before))
        return self._screen.holds(indices, after)

    def audit(self, block: Block, proposals: RowBatch, indices: np.ndarray) -> bool:
        """Whether the first of the rows proposed after a block, at some indices, are where the proof says."""
        some = slice(_AUDITED_ROWS)
        rows, local = proposals.features[some].to(torch.float64), torch.from_numpy(indices[some])
        none = torch.ones(len(rows), dtype=torch.float64)
        after = challenges_among(rows, block, self._screen.spec, none)[1]
        return self._screen.holds(local.to(self._features.device), after)

    def best(self, search: ExactSearch, indices: Tensor) -> tuple[float, TiedRows | None]:
        """Return the best exact value (gain over price) of some rows, -inf where none may win, and those near it."""
        spec = self._screen.spec
        gains, near_best, best = [], [], float("-inf")
        for part in indices.split(EXACT_ROWS):
            if self._rules is not None:
                part = part[self._rules.may_win(part, search.gate)]
            if not len(part):
                continue
            gain, prices = spec.acquisition.gain(search.state.scores(self._rows(part))), self.prices(part)
            best = max(best, float((gain / prices).max()))
            # Not the best row alone: its value may tie with that of another shard, and then the smallest id wins.
            near = gain >= spec.needed(torch.tensor(best, dtype=torch.float64), prices)
            gains.append(gain[near])
            near_best.append(part.cpu()[near])
        return best, TiedRows(torch.cat(gains), torch.cat(near_best), spec.gain_scale) if gains else None

    def prices(self, indices: Tensor) -> Tensor:
        """Return by what the gains of rows are divided, on the CPU."""
        if self._rules is None:
            return torch.ones(len(indices), dtype=torch.float64)
        return self._rules.rules.prices(self._rules.costs(indices).cpu())

    def _rows(self, indices: Tensor) -> Tensor:
        """Return rows in float64 on the CPU."""
        return self._features.rows(indices).to("cpu", torch.float64)
