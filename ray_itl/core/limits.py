"""Everything that constrains a selection besides n: what rows cost, how many of which, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ray_itl.core.quotas import Quotas
from ray_itl.core.rules import Rules
from ray_itl.core.standing import Reserve, Standing

_NO_RULES = Rules()


@dataclass(frozen=True)
class Ending:
    """Stop once little is left to learn: after the pick by which the targets' variance falls to `enough`."""

    target_root: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.float64))
    """T with T'T = A' diag(w) A (see `Targets.moment_root`), r x D."""
    variance: float = 1.0
    """sum_a w_a k(a, a) given the picks so far."""
    enough: float = -math.inf

    @property
    def is_reached(self) -> bool:
        """Whether no further pick is needed."""
        return self.variance <= self.enough

    def after(self, columns: Tensor) -> Ending:
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
    ending: Ending = field(default_factory=Ending)

    @property
    def driver_rules(self) -> Rules:
        """The rules, also where there are none."""
        return self.rules or _NO_RULES

    def standing(self, n: int) -> Standing:
        """Return where a selection of n rows stands before its first pick."""
        return Standing(n, self.budget, (), self.quotas, self.reserve)


class Shortfall(NamedTuple):
    """A minimum that was not met."""

    column: str
    value: str
    asked: int
    picked: int


def shortfalls(asked: Quotas | None, end: Quotas | None) -> Sequence[Shortfall]:
    """Return which minimums asked for were not met in the end."""
    if asked is None or end is None:
        return ()
    return tuple(
        Shortfall(quota.column, value, int(least), int(count))
        for quota, counts in zip(asked.columns, end.counts, strict=True)
        for value, least, count in zip(quota.values, quota.least, counts, strict=True)
        if count < least
    )
