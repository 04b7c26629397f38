"""The rules of a run on the rows of one shard."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.messages import Block
from ray_itl.core.rules import Gate, Rules, SimilarityGuard


@dataclass(frozen=True)
class CostsAndGroups:
    """What rules look at, for n rows."""

    costs: Tensor
    """n float64, > 0."""
    groups: Tensor
    """n int64."""

    @classmethod
    def default(cls, num_rows: int) -> CostsAndGroups:
        """Return those of rows that all cost 1 and are of one group."""
        return cls(torch.ones(num_rows, dtype=torch.float64), torch.zeros(num_rows, dtype=torch.int64))

    def at(self, indices: Tensor) -> CostsAndGroups:
        """Return those of some rows."""
        return CostsAndGroups(self.costs[indices], self.groups[indices])


class RowRules:
    """Which rows of a shard may be picked.

    A row that is too similar to a pick, a target or the like is excluded for good: it is marked in the shard's `held`
    and not looked at again. Only rows that would otherwise matter are ever compared.
    """

    def __init__(
        self, rules: Rules, features: FeatureStore, held: Tensor, costs_and_groups: CostsAndGroups | None
    ) -> None:
        """Look at the rows of a shard.

        Args:
            rules: Of the run.
            features: n x D.
            held: Which rows are not to be looked at, n bool; shared with the shard.
            costs_and_groups: Of the rows; None: every row costs 1, and all are of one group.
        """
        self.rules = rules
        self._features = features
        self._held = held
        costs_and_groups = costs_and_groups or CostsAndGroups.default(features.num_rows)
        self._costs_and_groups = CostsAndGroups(
            costs_and_groups.costs.to(features.device), costs_and_groups.groups.to(features.device)
        )
        self._guards: list[SimilarityGuard] = list(rules.guards)

    def costs(self, rows: slice | Tensor) -> Tensor:
        """Return the costs of rows."""
        return self._costs_and_groups.costs[rows]

    def groups(self, rows: slice | Tensor) -> Tensor:
        """Return the groups of rows."""
        return self._costs_and_groups.groups[rows]

    def keep_away_from(self, picks: Tensor) -> None:
        """Exclude from now on rows like these picks (k x D)."""
        self._guards.extend(self.rules.around_picks(picks))

    def admitted(self, rows: slice | Tensor, gate: Gate) -> Tensor:
        """Return which rows a gate of one moment lets through, whatever they are like."""
        return gate.admits(self.costs(rows), self.groups(rows))[:, 0]

    def may_be_picked(self, indices: Tensor, challenges: Tensor, block: Block) -> Tensor:
        """Return at which of a block's B steps each of k rows may be picked: k x B bool.

        Args:
            indices: k int64.
            challenges: Which steps each row challenges, k x B bool: only rows that challenge a step at which the gate
                admits them are compared with other rows.
            block: The block.
        """
        admitted = block.gate.admits(self.costs(indices), self.groups(indices))[:, : block.size]
        if not self.rules.uses_features:
            return admitted
        asked = torch.nonzero((admitted & challenges).any(dim=1)).flatten()
        rows = self._features.rows(indices[asked])
        excluded = self._exclude(indices[asked], rows)
        if block.picks is not None:
            later = self.rules.excluded_after(rows, block.picks)[:, : block.size].to(admitted.device)
            admitted[asked] &= ~later
        admitted[asked] &= ~excluded[:, None]
        return admitted

    def may_win(self, indices: Tensor, gate: Gate) -> Tensor:
        """Return which of k rows may be picked now: k bool."""
        admitted = self.admitted(indices, gate)
        if self.rules.uses_features:
            asked = torch.nonzero(admitted).flatten()
            admitted[asked] &= ~self._exclude(indices[asked], self._features.rows(indices[asked]))
        return admitted

    def available(self, indices: Tensor, picks: Tensor | None) -> Tensor:
        """Return which of k rows no similarity excludes, nor one to `picks` (if any), which may be rejected: k bool."""
        if not self.rules.uses_features or not len(indices):
            return torch.ones(len(indices), dtype=torch.bool, device=self._held.device)
        rows = self._features.rows(indices)
        excluded = self._exclude(indices, rows)
        for guard in () if picks is None else self.rules.around_picks(picks):
            excluded |= guard.excludes(rows).to(excluded.device)
        return ~excluded

    def _exclude(self, indices: Tensor, rows: Tensor) -> Tensor:
        """Mark and return which of k rows are excluded for good: k bool."""
        excluded = torch.zeros(len(rows), dtype=torch.bool)
        for guard in self._guards:
            excluded |= guard.excludes(rows)
        excluded = excluded.to(self._held.device)
        self._held[indices[excluded]] = True
        return excluded
