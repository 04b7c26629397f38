"""What the driver has committed to so far: the picks, the state they lead to, and the rows it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions import RULES, load_rule
from ray_itl.core.acquisitions.base import AcquisitionState
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.criteria import Criteria
from ray_itl.core.decision import Contenders, Winner
from ray_itl.core.foremost import foremost
from ray_itl.core.limits import LimitState
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import RowBatch, ScoreSpec
from ray_itl.core.rules import Gate
from ray_itl.core.speculation import Returned, SpeculatedPicks, speculate

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Pick:
    """One pick: where it is, who it is, what it was worth given the picks before it, and what it took."""

    position: int
    row_id: int | str
    gain: float
    cost: float = 1.0
    group: int = 0
    """Its group, by which quotas count it."""


class Trajectory:
    """The committed picks of one selection and the driver's candidates; grows by whole accepted prefixes."""

    def __init__(
        self,
        criteria: Criteria,
        start: ScoreSpec,
        state: AcquisitionState,
        limit_state: LimitState,
        focus: int,
        excluded: np.ndarray,
    ) -> None:
        """Begin without picks or candidates; rows at `excluded` positions will never be either."""
        dim = start.quadratics[0].factor.shape[0]
        self.state = state
        self.limit_state = limit_state
        self.candidates = CandidateSet(start, criteria.total_order.magnitudes, focus)
        self.picks: list[Pick] = []
        self.features: list[Tensor] = []
        self._criteria = criteria
        self._columns: list[Tensor] = []
        self._start, self._started = start, 0
        self._excluded = excluded.astype(np.int64)
        self._most_columns = 2 * dim
        self.no_columns = torch.empty(dim, start.acquisition.num_tracks, 0, dtype=torch.float64)

    @property
    def held(self) -> np.ndarray:
        """Positions of all rows that the driver answers for: candidates, and rows that may not be picked (again)."""
        return np.concatenate([self.candidates.positions, self._excluded])

    @property
    def gate(self) -> Gate:
        """Which rows may be picked next."""
        return Gate.of([self.limit_state.max_costs()])

    def directions(self) -> Tensor | None:
        """Return w = S y / sqrt(y'Sy + s2) of every pick, D x n, where its columns are kept and known to begin with it.

        They are kept of up to 2 D picks, and begin with it by the rules of `RULES`; of others nothing is said.
        """
        acquisition = self._criteria.total_order.acquisition
        is_ours = acquisition.name in RULES and type(acquisition) is load_rule(acquisition.name)
        if not is_ours or not self._columns:
            return None
        return torch.stack([columns[:, 0] for columns in self._columns], dim=1)

    def features_since(self, first: int) -> Tensor:
        """Return the features of the picks from number `first` on (from 0), k x D float64."""
        dim = self.no_columns.shape[0]
        return torch.stack(self.features[first:]) if len(self.features) > first else torch.empty(0, dim).double()

    def replay(self, earlier: Sequence[tuple[Pick, Tensor]]) -> None:
        """Commit the picks of an interrupted run, each with its features (D float64). O(n D r)."""
        for pick, features in earlier:
            columns, self.state = self.state.step(features)
            self._commit(pick, features, columns)
        if not self._criteria.replacement:
            positions = np.array([pick.position for pick, _ in earlier], dtype=np.int64)
            self._excluded = np.concatenate([self._excluded, positions])

    def best(self) -> Winner | None:
        """Return the first candidate in the total order, if one may be picked. O(k), O(D r) for each close rival."""
        held, may_win = self.candidates, self.gate.admits(self.candidates.costs, self.candidates.groups)[:, 0]
        few, held.scores = foremost(self._criteria, held, self.state, held.scores, may_win)
        if not len(few):
            return None
        prices, scores = self._criteria.rules.prices(held.costs[few]), held.scores.at(few)
        contenders = Contenders(held.rows(few), held.ids[few.numpy()], scores, held.norms[few], prices, may_win[few])
        best = self._criteria.total_order.best(self.state, contenders)
        return Winner(int(few[best.place]), best.gain)

    def values(self) -> Tensor:
        """Return what candidates are sorted by: k float64, -inf for those that may not be picked now."""
        held, criteria = self.candidates, self._criteria
        if criteria.rules.per_cost:
            values = criteria.total_order.gains(held.scores.values) / held.costs
        else:
            values = criteria.total_order.acquisition.order(held.scores.values)
        return values.masked_fill(~self.gate.admits(held.costs, held.groups)[:, 0], float("-inf"))

    def speculate(self, size: int) -> SpeculatedPicks:
        """Make up to `size` greedy steps over the candidates (see `speculation.speculate`)."""
        return speculate(self._criteria, self.state, self.limit_state, self.candidates, size)

    def accept(self, plan: SpeculatedPicks, count: int) -> list[Pick]:
        """Commit the first `count` picks of a plan made from the current candidates. O(count D r + k count)."""
        held, new, scores = self.candidates, [], plan.path.at(count)
        for step, index in enumerate(plan.picks[:count]):
            row_id, cost, group = held.ids[index : index + 1].tolist()[0], held.costs[index], held.groups[index]
            new.append(Pick(int(held.positions[index]), row_id, plan.gains[step], float(cost), int(group)))
            features = plan.features[step].clone()
            if count < len(plan.picks):
                self.state = self.state.condition(features)
            self._commit(new[-1], features, plan.columns[:, :, step])
        if not count:
            return new
        if count == len(plan.picks):
            self.state = plan.state
        held.scores = scores
        stays = ~self._criteria.rules.excluded_after(held.features, plan.features[:count])[:, count]
        if not self._criteria.replacement:
            stays[plan.picks[:count]] = False
        self._exclude_others(stays)
        return new

    def begin_anew(self, start: ScoreSpec) -> None:
        """Score new candidates from here on, as shards do: `start` is what they begin with in the present state."""
        self._start, self._started = start, len(self.picks)

    def hold(self, batch: RowBatch) -> None:
        """Take rows, all of which the shards found available, as candidates. O(k D (r + b)), for b picks since then."""
        norms = squared_norms(batch.features)
        self.candidates.add(batch, norms, self._scored(batch, norms))

    def _scored(self, batch: RowBatch, norms: Tensor) -> BoundedScores:
        """Return scores of rows: exact ones, unless candidates are screened and have not seen too many picks."""
        since, scores = self._columns[self._started :], None
        dim, num_tracks, _ = self.no_columns.shape
        if len(since) == len(self.picks) - self._started and num_tracks * len(since) <= 2 * dim:
            columns = torch.stack(since, dim=2) if since else self.no_columns
            scores = self.candidates.score(batch, norms, self._start, columns)
        if scores is not None:
            return scores
        parts = [self.state.scores(part.to(torch.float64)) for part in batch.features.split(_ROWS_AT_ONCE)]
        return BoundedScores.exactly(tuple(torch.cat(part) for part in zip(*parts, strict=True)))

    def hold_returned(self, returned: Returned, plan: SpeculatedPicks, accepted: int) -> None:
        """Take rows as candidates.

        Args:
            returned: The rows, scored along a plan.
            plan: The plan.
            accepted: How many of its picks have been committed.
        """
        scores = tuple(
            before - decrement[:, :accepted].sum(dim=1)
            for before, decrement in zip(returned.before, returned.decrements, strict=True)
        )
        old = len(self.candidates)
        self.candidates.add(returned.batch, returned.norms, BoundedScores.exactly(scores))
        if self._criteria.rules.excludes_similar_picks:
            stays = torch.ones(len(self.candidates), dtype=torch.bool)
            stays[old:] = ~self._criteria.rules.excluded_after(returned.features, plan.features[:accepted])[:, accepted]
            self._exclude_others(stays)

    def _exclude_others(self, stays: Tensor) -> None:
        """Drop for good the candidates that do not stay (k bool)."""
        if not bool(stays.all()):
            self._excluded = np.concatenate([self._excluded, self.candidates.keep(stays)])

    def _commit(self, pick: Pick, features: Tensor, columns: Tensor) -> None:
        self.limit_state = self.limit_state.take(pick.cost, pick.group)
        self.picks.append(pick)
        self.features.append(features)
        if len(self.picks) <= self._most_columns:
            self._columns.append(columns.clone())  # not the whole plan's
        else:
            self._columns.clear()
