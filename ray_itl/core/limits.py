"""Everything that constrains a selection besides n: what rows cost, how many of which, and when it is enough.

`Limits` is what a user sets; `LimitState` is where a selection stands with it before each pick: what is spent, and what
a row of each group may still cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.posterior import Posterior
from ray_itl.core.quotas import Quotas
from ray_itl.core.rules import Gate, Rules
from ray_itl.core.similarity_floor import SimilarityFloor


@dataclass(frozen=True)
class Reserve:
    """What minimums cost at least: for each value of one column the costs of its cheapest rows not picked, ascending.

    At first as many as the value must have.
    """

    column: int
    """Which of the quotas' columns it is."""
    cheapest: tuple[np.ndarray, ...]

    def take(self, cost: float, value: int) -> Reserve:
        """Return the reserve after a pick of a value, which may have been one of the cheapest."""
        costs = self.cheapest[value]
        place = int(np.searchsorted(costs, cost))
        if place == len(costs) or costs[place] != cost:
            return self
        rest = np.delete(costs, place)
        return replace(self, cheapest=(*self.cheapest[:value], rest, *self.cheapest[value + 1 :]))

    def after_pick(self, deficit: np.ndarray) -> np.ndarray:
        """Return what must be left after a pick of each value, given what each lacks before it: V float64."""
        needs = np.array([costs[:lacking].sum() for costs, lacking in zip(self.cheapest, deficit, strict=True)])
        first = np.array([costs[0] if lacking else 0.0 for costs, lacking in zip(self.cheapest, deficit, strict=True)])
        return needs.sum() - first


@dataclass(frozen=True)
class LimitState:
    """Where a selection stands with its limits; immutable: `take` returns the state after one more pick.

    With a budget, a minimum holds back money as well as slots: for each value that lacks d picks the costs of its d
    cheapest rows, and after a pick of it those of all but the cheapest (so a row that is not the cheapest may be
    refused where a closer look would let it through; the cheapest always passes).
    """

    slots: int
    """Picks left to make."""
    budget: float = math.inf
    costs: tuple[float, ...] = ()
    """What the picks so far cost, each."""
    quotas: Quotas | None = None
    reserve: Reserve | None = None
    """None without a budget or without minimums."""

    @property
    def spent(self) -> float:
        """Sum of all costs, rounded once: it does not depend on their order."""
        return math.fsum(self.costs)

    @property
    def admits_all(self) -> bool:
        """Whether any row may be picked next, whatever it costs."""
        return self.quotas is None and self.budget == math.inf

    def take(self, cost: float, group: int) -> LimitState:
        """Return the state after a pick of a cost and a group."""
        costs = (*self.costs, cost) if math.isfinite(self.budget) else ()
        if self.quotas is None:
            return replace(self, slots=self.slots - 1, costs=costs)
        reserve = self.reserve
        if reserve is not None:
            reserve = reserve.take(cost, int(self.quotas.cells[group, reserve.column]))
        return replace(self, slots=self.slots - 1, costs=costs, quotas=self.quotas.take(group), reserve=reserve)

    def max_costs(self) -> np.ndarray:
        """Return what a row of each group may cost at most: G float64."""
        left = self.budget - self.spent
        if self.quotas is None:
            return np.array([left])
        at_most = np.where(self.quotas.allowed(self.slots), left - self._held_back(), -math.inf)
        return np.where(at_most < 0, -math.inf, at_most)

    def relax(self) -> LimitState | None:
        """Return the state without the minimums of the groups that are open now, which turned out to have no row.

        None where that changes nothing: then there is no row left at all.
        """
        if self.quotas is None or not any(deficit.any() for deficit in self.quotas.missing):
            return None
        relaxed = self.quotas.relax(self.max_costs() > -math.inf)
        same = all(np.array_equal(a.least, b.least) for a, b in zip(relaxed.columns, self.quotas.columns, strict=True))
        return None if same else replace(self, quotas=relaxed)

    def _held_back(self) -> np.ndarray | float:
        """Return what must be left after a pick from each group: G."""
        if self.reserve is None or self.quotas is None:
            return 0.0
        column = self.reserve.column
        return self.reserve.after_pick(self.quotas.missing[column])[self.quotas.cells[:, column]]


def gate_along(limit_state: LimitState, picks: Iterable[tuple[float, int]]) -> Gate:
    """Return which rows could be picked at each step of a selection, given what every pick cost and its group.

    A minimum was given up before a pick exactly if the pick is not within the limits otherwise. Asks again what was
    asked during the selection (see `Quotas`): for minimums beside other quotas an integer program or more a pick.

    Args:
        limit_state: Before the first pick.
        picks: Cost and group of each, in order; at least one.
    """
    max_costs = []
    for cost, group in picks:
        while not cost <= (at_most := limit_state.max_costs())[group]:
            relaxed = limit_state.relax()
            assert relaxed is not None, "the pick was within the limits when it was made"
            limit_state = relaxed
        max_costs.append(at_most)
        limit_state = limit_state.take(cost, group)
    return Gate.of(max_costs)


_NO_RULES = Rules()


@dataclass(frozen=True)
class ShareTarget:
    """When to stop for `selection.share`: after the pick by which the targets' variance falls to `enough`."""

    target_root: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.float64))
    """T with T'T = A' diag(w) A (see `Targets.moment_root`), r x D."""
    variance: float = 1.0
    """sum_a w_a k(a, a) given the picks so far."""
    enough: float = -math.inf

    @property
    def is_reached(self) -> bool:
        """Whether no further pick is needed."""
        return self.variance <= self.enough

    def given(self, posterior: Posterior) -> ShareTarget:
        """Return where earlier picks have led, after which the posterior is this."""
        if math.isinf(self.enough):
            return self
        return replace(self, variance=float(posterior.variance(self.target_root).sum()))

    def after(self, columns: Tensor) -> ShareTarget:
        """Return where picks lead whose columns w = S y / sqrt(y'Sy + s2) are these (D x k). O(r D k)."""
        if math.isinf(self.enough):
            return self
        return replace(self, variance=self.variance - float((self.target_root @ columns).square().sum()))


@dataclass(frozen=True)
class Limits:
    """What a user sets; by default nothing limits a selection but n."""

    rules: Rules | None = None
    """None where every row costs 1 and may be picked: shards then need not look."""
    budget: float = math.inf
    """What all picks together may cost; it is never exceeded. Rows that no longer fit are passed over."""
    quotas: Quotas | None = None
    reserve: Reserve | None = None
    """What the minimums of the quotas cost, where there is a budget."""
    min_gain: float = 0.0
    """Stop before the first pick that is worth less than this for each unit of its cost (within the tie width it is
    not less). The gains of ITL may rise again, but what would come later is not looked at. 0 never stops."""
    share_target: ShareTarget = field(default_factory=ShareTarget)
    floor: SimilarityFloor | None = None
    """Rows below it are passed over; budget and quotas do not know of them."""

    @property
    def driver_rules(self) -> Rules:
        """The rules, also where there are none."""
        return self.rules or _NO_RULES

    def limit_state(self, n: int) -> LimitState:
        """Return where a selection of n rows stands before its first pick."""
        return LimitState(n, self.budget, (), self.quotas, self.reserve)
