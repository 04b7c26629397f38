"""What the driver has committed to so far: the picks, the state they lead to, and the rows it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisition import Acquisition, AcquisitionState, Scores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.decision import Best, Judge
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch
from ray_itl.core.speculation import Arrivals, Plan


@dataclass(frozen=True)
class Pick:
    """One pick: where it is, who it is, and what it was worth given the picks before it."""

    position: int
    row_id: int | str
    gain: float


class Trajectory:
    """The committed picks of one selection and the driver's candidates; grows by whole accepted prefixes."""

    def __init__(
        self, acquisition: Acquisition, state: AcquisitionState, dim: int, replacement: bool, excluded: np.ndarray
    ) -> None:
        """Begin without picks or candidates; rows at `excluded` positions will never be either."""
        self.state = state
        self.candidates = CandidateSet(dim)
        self.picks: list[Pick] = []
        self.features: list[Tensor] = []
        self._columns: list[Tensor] = []
        self._replacement = replacement
        self._taken = excluded.astype(np.int64)
        self._no_columns = torch.empty(dim, acquisition.num_tracks, 0, dtype=torch.float64)

    @property
    def held(self) -> np.ndarray:
        """Positions of all rows that the driver answers for: candidates, and rows that may not be picked (again)."""
        return np.concatenate([self.candidates.positions, self._taken])

    def columns(self) -> Tensor:
        """Return the picks' columns, D x num_tracks x n: with them a shard can be brought up to date."""
        return torch.stack(self._columns, dim=2) if self._columns else self._no_columns

    def replay(self, earlier: Sequence[tuple[Pick, Tensor]]) -> None:
        """Commit the picks of an interrupted run, each with its features (D float64). O(n D^2)."""
        for pick, features in earlier:
            self._commit(pick, features, self.state.columns(features))
        if not self._replacement:
            self._taken = np.concatenate([self._taken, np.array([pick.position for pick, _ in earlier], np.int64)])

    def best(self, judge: Judge) -> Best:
        """Return the first candidate (at least one) in the total order. O(k), and O(D^2) for each close rival."""
        held = self.candidates
        return judge.best(self.state, held.features, held.ids, held.scores, held.norms)

    def accept(self, plan: Plan, count: int) -> list[Pick]:
        """Commit the first `count` picks of a plan made from the current candidates. O(count D^2 + k count)."""
        new = []
        for step, index in enumerate(plan.picks[:count]):
            row_id = self.candidates.ids[index : index + 1].tolist()[0]
            new.append(Pick(int(self.candidates.positions[index]), row_id, plan.gains[step]))
            self._commit(new[-1], self.candidates.features[index].clone(), plan.columns[:, :, step])
        self.candidates.advance(Scores(plan.decrements.num[:, :count], plan.decrements.den[:, :count]))
        if not self._replacement:
            stays = torch.ones(len(self.candidates), dtype=torch.bool)
            stays[plan.picks[:count]] = False
            self._taken = np.concatenate([self._taken, self.candidates.keep(stays)])
        return new

    def hold(self, batch: RowBatch) -> None:
        """Take rows as candidates, scored exactly under the current state. O(k D^2)."""
        features = batch.features.to(torch.float64)
        scores = self.state.scores(features)
        self.candidates.add(batch.positions, batch.ids, features, squared_norms(features), scores)

    def hold_arrivals(self, arrivals: Arrivals, accepted: int) -> None:
        """Take rows as candidates that were scored along a plan of which `accepted` picks were committed."""
        scores = Scores(
            *(
                before - decrement[:, :accepted].sum(dim=1)
                for before, decrement in zip(arrivals.before, arrivals.decrements, strict=True)
            )
        )
        batch = arrivals.batch
        self.candidates.add(batch.positions, batch.ids, arrivals.features, arrivals.norms, scores)

    def _commit(self, pick: Pick, features: Tensor, columns: Tensor) -> None:
        self.state = self.state.condition(features)
        self.picks.append(pick)
        self.features.append(features)
        self._columns.append(columns)
