"""Checking how a run says that it ended: was there the reason for it that it gives, and none before?

The reason `share` says that little is left to learn: a share of what all rows of the pool could teach about the
targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.curation.problem import Problem
from ray_itl.shards.loading import rows_as_stored
from ray_itl.sources.bad_rows import BadRows
from ray_itl.verification.replay import Replay, TieTest
from ray_itl.verification.room import Room


def variance_at_share(problem: Problem, first: float, dtype: str) -> float:
    """Return the targets' variance at which `selection.share` is reached.

    The variance given known rows K and all pool rows X is sum_a w_a a'(I + (K'K + X'X) / s2)^-1 a.

    Args:
        problem: The problem, with a share.
        first: sum_a w_a k(a, a) before the first pick.
        dtype: In which the shards held rows.

    Reads the pool once: O(N D^2).
    """
    noise_variance = problem.acquisition.noise_variance
    precision = torch.eye(problem.dim, dtype=torch.float64)
    if problem.known is not None:
        precision += problem.known.mT @ problem.known / noise_variance
    position = 0
    for _, embeddings in problem.source.batches(0, problem.source.num_rows, BadRows()):
        usable = np.asarray(np.isfinite(embeddings).all(axis=1))
        usable[problem.skipped.within(position, position + len(embeddings))] = False
        position += len(embeddings)
        rows = rows_as_stored(problem.feature_map, embeddings[usable], dtype)
        precision += rows.mT @ rows / noise_variance
    factor = torch.linalg.cholesky(precision)
    whitened = torch.linalg.solve_triangular(factor, problem.targets.weighted.mT, upper=False)
    last = float(whitened.square().sum())
    return first - (problem.selection.share or 0.0) * (first - last)


_VARIANCE_TOLERANCE = 1e-9
_GAIN_TOLERANCE = 1e-6


@dataclass(frozen=True)
class StoppingCheck:
    """The end of a run, its picks replayed."""

    replay: Replay
    costs_and_groups: CostsAndGroups
    """Of the rows compared."""
    gains: np.ndarray
    """The recorded gains of the n picks."""
    metrics: Mapping[str, Any]
    """What metrics.json holds."""
    pool_is_whole: bool
    """Whether the rows compared are all that the run might pick."""
    dtype: str
    """In which the shards held rows."""

    def contradictions(self) -> list[str]:
        """Return what is wrong, as lines. Reads the pool once where `selection.share` is set."""
        stop = self.metrics.get("stop", "n")
        next_gain = self.metrics.get("next_gain")
        found = []
        if (stop == "min_gain") != (next_gain is not None):
            found.append(f"metrics.json has stop={stop} with next_gain={next_gain}: one of them is wrong")
        if next_gain is not None:
            found += self._wrong_next_gain(next_gain)
        elif stop == "no_rows":
            found += self._rows_left()
        return found + self._worthless_picks() + self._wrong_share(stop) + self._wrong_use()

    @property
    def _num_picks(self) -> int:
        return len(self.replay.picks)

    def _wrong_next_gain(self, next_gain: float) -> list[str]:
        """Compare what the next pick would have been worth with what the rows compared would have added."""
        least, found = self.replay.problem.selection.min_gain, []
        if not next_gain < least:
            found.append(
                f"the run ended for min_gain={least:.10g}, but records that the next pick adds {next_gain:.10g}"
            )
        tie_test = self.replay.after_all()
        if not tie_test.is_open.any():
            whole = ["the run ended for min_gain, but no further row might be picked"] if self.pool_is_whole else []
            return found + whole
        if self._next_gain_is_wrong(tie_test, next_gain):
            best = int(tie_test.values.argmax())
            worth = tie_test.gains[best] / self._costs[best]
            name = self.replay.ids[[best]].tolist()[0]
            found.append(f"the run ended at a next gain of {next_gain:.10g}, but row {name} adds {worth:.10g}")
        return found

    def _next_gain_is_wrong(self, tie_test: TieTest, next_gain: float) -> bool:
        """Whether no row that may come next is worth that, or one compared with it is worth more.

        Where gains compete that are not divided by costs, a row outside those compared may gain more at any cost.
        """
        firsts = tie_test.possible_winners()
        costs = self._costs[firsts]
        off = np.array([self.replay.tolerance(gain, self._num_picks) for gain in tie_test.gains[firsts].tolist()])
        over = tie_test.gains[firsts] - next_gain * costs
        if self.pool_is_whole:
            return not bool((np.abs(over) <= off).any())
        chosen = self.replay.problem.selection
        return (chosen.per_cost or chosen.cost_column is None) and bool((over > off).all())

    @property
    def _costs(self) -> np.ndarray:
        return self.costs_and_groups.costs.numpy()

    def _rows_left(self) -> list[str]:
        """Return a row that might still have been picked, if there is one."""
        left = np.flatnonzero(self.replay.open_rows[self._num_picks])
        if not len(left):
            return []
        name = self.replay.ids[left[:1]].tolist()[0]
        return [f"the run ended because no further row might be picked, but row {name} might"]

    def _worthless_picks(self) -> list[str]:
        """Return the first pick that should have ended the run instead."""
        least = self.replay.problem.selection.min_gain
        if least <= 0 or not self._num_picks:
            return []
        needed = least * self._costs[self.replay.picks]
        low = np.flatnonzero(self.gains < needed * (1 - _GAIN_TOLERANCE) - self.replay.tolerance(0.0, self._num_picks))
        if not len(low):
            return []
        rank = int(low[0])
        return [f"rank {rank + 1} gains {self.gains[rank]:.10g}, less than min_gain asks for: {needed[rank]:.10g}"]

    def _wrong_share(self, stop: str) -> list[str]:
        """Compare where the run ended with where the share of what the pool could teach was reached."""
        share = self.replay.problem.selection.share
        if share is None:
            return [f"metrics.json has stop={stop}, but selection.share is not set"] if stop == "share" else []
        variances = self.replay.target_variances()
        enough = variance_at_share(self.replay.problem, variances[0], self.dtype)
        slack = _VARIANCE_TOLERANCE * variances[0]
        before = np.flatnonzero(variances[: self._num_picks + (stop != "share")] < enough - slack)
        if len(before):
            reached = f"selection.share={share:g} is reached after {before[0]:,} picks"
            return [f"{reached}, but the run ended after {self._num_picks:,} (stop={stop})"]
        if stop == "share" and variances[-1] > enough + slack:
            return [f"the run ended for selection.share={share:g}, but its {self._num_picks:,} picks do not reach it"]
        return []

    def _wrong_use(self) -> list[str]:
        """Compare what metrics.json says of the limits with a recount."""
        picks = self.replay.picks
        problem = self.replay.problem
        room = Room.of(problem.limits, problem.selection.n)
        used = room.use(self._costs[picks].tolist(), self.costs_and_groups.groups.numpy()[picks])
        if self.metrics.get("limits", used) == used:
            return []
        return [f"metrics.json says of the limits {self.metrics['limits']}, but the picks make it {used}"]
