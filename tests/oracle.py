"""The dense reference.

What may be picked, by the definitions: slow, obvious, and sharing nothing with the engine. The oracle of tests.

The dense float64 definitions: slow, obvious, and the oracle of every test.

Everything is formed: the joint kernel matrix of known rows, pool and targets, conditioned one observation at a time.
Memory O((N + M)^2), time O(n (N + M)^2 + n M^3). Ties as in `decision`: the smallest id among the rows within
the tie width of the largest gain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.posterior import Targets
from ray_itl.core.reference import condition_kernel, dense_gains, dense_kernel


@dataclass(frozen=True)
class DenseQuota:
    """Bounds on the picks by one column of the pool."""

    values: Sequence[str]
    """The column: one value per row."""
    least: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DenseLimits:
    """Limits of a selection of n rows from N (see `limits.Limits`)."""

    n: int
    costs: Tensor
    """N float64."""
    budget: float = math.inf
    per_cost: bool = False
    quotas: Sequence[DenseQuota] = ()
    kernel: Tensor | None = None
    """Cosines of all pairs of rows, N x N, where likeness to picks matters."""
    max_similarity: float = math.inf
    barred: frozenset[int] = frozenset()
    """Rows too similar to others than picks."""

    _least: list[dict[str, int]] = field(default_factory=list)
    """The minimums not given up so far."""

    def begin(self) -> DenseLimits:
        """Return the limits before the first pick; what `may_pick` gives up stays given up."""
        return replace(self, _least=[dict(quota.least) for quota in self.quotas])

    @property
    def prices(self) -> Tensor:
        """What gains are divided by: N."""
        return self.costs if self.per_cost else torch.ones_like(self.costs)

    def may_pick(self, picks: Sequence[int], available: Tensor) -> Tensor:
        """Return which rows may come next after some picks, of those `available` at all: N bool.

        Minimums hold back slots, and money for their cheapest rows, as if no row were barred for its likeness to
        others. Where then no row may come, those minimums are given up that the rows with room would have filled.
        """
        rows, costs = available.nonzero().flatten().tolist(), self.costs.tolist()
        unlike = [i for i in rows if not self._is_barred(i, picks)]
        while True:
            rooms = {group: self._room(group, picks, rows, self._least) for group in {self._group(i) for i in unlike}}
            found = [i for i in unlike if costs[i] <= rooms[self._group(i)]]
            if found or not self._give_up(picks, rows, self._least):
                result = torch.zeros(len(self.costs), dtype=torch.bool)
                result[found] = True
                return result

    def _is_barred(self, row: int, picks: Sequence[int]) -> bool:
        alike = self.kernel is not None and any(float(self.kernel[row, p]) > self.max_similarity for p in picks)
        return alike or row in self.barred

    def _group(self, row: int) -> tuple[str, ...]:
        return tuple(quota.values[row] for quota in self.quotas)

    def _room(
        self, group: tuple[str, ...], picks: Sequence[int], rows: Sequence[int], least: Sequence[Mapping[str, int]]
    ) -> float:
        """Return what a row of a group may cost after some picks; -inf where it may not come."""
        groups = Counter(self._group(i) for i in picks)
        groups[group] += 1
        free = Counter(self._group(i) for i in rows)
        free[group] -= 1
        if not self._completable(groups, free, least, self.n - len(picks) - 1):
            return -math.inf
        room = self.budget - math.fsum(float(self.costs[i]) for i in picks)
        if math.isfinite(self.budget):
            for place, (quota, asked) in enumerate(zip(self.quotas, least, strict=True)):
                for value, minimum in asked.items():
                    lacking = max(0, minimum - sum(quota.values[i] == value for i in picks))
                    cheapest = sorted(float(self.costs[i]) for i in rows if quota.values[i] == value)[:lacking]
                    room -= sum(cheapest[1:] if group[place] == value else cheapest)
        return room if room >= 0 else -math.inf

    def _completable(self, groups: Counter, free: Counter, least: Sequence[Mapping[str, int]], slots: int) -> bool:
        """Whether some further picks, within slots, maximums and the rows there are, meet all minimums."""
        counts = [Counter[str]() for _ in self.quotas]
        for group, count in groups.items():
            for value, counter in zip(group, counts, strict=True):
                counter[value] += count
        if slots < 0 or any(
            n > q.most.get(v, n) for q, c in zip(self.quotas, counts, strict=True) for v, n in c.items()
        ):
            return False
        lacking = [
            (place, value)
            for place, (asked, count) in enumerate(zip(least, counts, strict=True))
            for value, minimum in asked.items()
            if count[value] < minimum
        ]
        if not lacking:
            return True
        place, value = lacking[0]
        return any(
            self._completable(groups + Counter([group]), free - Counter([group]), least, slots - 1)
            for group, count in free.items()
            if count > 0 and group[place] == value
        )

    def _give_up(self, picks: Sequence[int], rows: Sequence[int], least: Sequence[dict[str, int]]) -> bool:
        """Lower the minimums of the groups with room, none of whose rows is free; returns whether that changed any."""
        before = [dict(asked) for asked in least]
        everywhere = {self._group(i) for i in range(len(self.costs))}
        opened = [group for group in everywhere if self._room(group, picks, rows, least) > -math.inf]
        for place, (quota, asked) in enumerate(zip(self.quotas, least, strict=True)):
            for value in {group[place] for group in opened} & set(asked):
                asked[value] = min(asked[value], sum(quota.values[i] == value for i in picks))
        return before != least


@dataclass(frozen=True)
class DensePick:
    """One pick of the reference: pool index, gain, and the gains of all rows at that step (N, picked ones too)."""

    index: int
    gain: float
    gains: Tensor


def size_beside_noise(pool: Tensor, noise_variance: float) -> float:
    """Return m / (m + s2), by which what counts as nothing depends on units; m is the mean |x|^2 to six digits."""
    mean = float(f"{float(pool.square().sum(dim=1).mean()):.5e}")
    return mean / (mean + noise_variance) or 1.0


def first_in_order(gains: Tensor, ids: np.ndarray, gain_scale: float, prices: Tensor | float = 1.0) -> int:
    """Return the index of the smallest id among rows that tie with the largest gain (or gain over price).

    A row ties if its gain is within the tie width of what it would have to be, at its price, to be of the best value.
    """
    needed = float((gains / prices).max()) * (torch.ones_like(gains) * prices)
    tied = torch.nonzero(gains >= needed - 1e-9 * needed.abs() - 1e-12 * gain_scale).flatten().numpy()
    return int(tied[np.argsort(ids[tied], kind="stable")[0]])


def dense_greedy(
    rule: str,
    pool: Tensor,
    ids: np.ndarray,
    targets: Targets,
    n: int,
    noise_variance: float,
    target_noise: float | None = None,
    known: Tensor | None = None,
    replacement: bool = False,
    min_gain: float = 0.0,
    excluded: Sequence[int] = (),
    limits: DenseLimits | None = None,
    others: Sequence[tuple[Targets, float]] = (),
    weight: float = 1.0,
) -> list[DensePick]:
    """Pick n rows greedily by the dense definitions.

    Args:
        rule: Acquisition.
        pool: N x D float64 features.
        ids: N row ids, for ties.
        targets: The target sample.
        n: Number of picks.
        noise_variance: s2 > 0.
        target_noise: s2A; None means s2.
        known: Rows observed (with noise s2) before the first pick, K x D.
        replacement: Whether a row may be picked again.
        min_gain: Stop before the first pick that gains less per unit of its cost, by more than the tie width.
        excluded: Indices of rows that may not be picked.
        limits: Costs, quotas and the like.
        others: Further tasks, each with a weight by which its gain counts (negative: subtracted); ITL and VTL.
        weight: By which the gain about `targets` counts.
    """
    target_noise = noise_variance if target_noise is None else target_noise
    tasks = [(targets, weight), *others]
    everything = Targets.uniform(torch.cat([task.rows for task, _ in tasks]))
    kernel = dense_kernel(pool, everything, known, noise_variance)
    scale = sum(float((task.weighted.square()).sum()) for task, _ in tasks) if rule == "vtl" else 1.0
    scale *= size_beside_noise(pool, noise_variance)
    limits = (limits or DenseLimits(n, torch.ones(len(pool), dtype=torch.float64))).begin()
    available = torch.ones(len(pool), dtype=torch.bool)
    available[list(excluded)] = False
    picks: list[DensePick] = []
    for _ in range(n):
        gains = torch.zeros(len(pool), dtype=torch.float64)
        first = len(pool)
        for task, share in tasks:
            part = torch.cat([torch.arange(len(pool)), torch.arange(first, first + len(task.rows))])
            first += len(task.rows)
            here = kernel[part][:, part]
            gains += share * dense_gains(rule, here, len(pool), task.weights, noise_variance, target_noise)
        may_pick = available & limits.may_pick([pick.index for pick in picks], available)
        if not bool(may_pick.any()):
            break
        index = first_in_order(gains.masked_fill(~may_pick, float("-inf")), ids, scale, limits.prices)
        needed = min_gain * float(limits.costs[index])
        if float(gains[index]) < needed - 1e-9 * needed - 1e-12 * scale and min_gain > 0:
            break
        picks.append(DensePick(index, float(gains[index]), gains))
        kernel = condition_kernel(kernel, index, noise_variance)
        available[index] = replacement
    return picks
