"""Options that limit a selection: costs and budget, quotas, likeness, and when it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_itl.option_checks import is_positive, is_whole, require

NEAR_TARGET_WORDS = ("flag", "exclude", "ignore")


@dataclass(kw_only=True)
class LimitSettings:
    """What limits the picks; part of SelectionSettings."""

    cost_column: str | None = None
    """Column of what a row costs (tokens, bytes, money), > 0. null: every row costs 1."""
    budget: float | None = None
    """What all picks together may cost; never exceeded. Rows that no longer fit are passed over. null: no limit."""
    per_cost: bool = False
    """Whether rows compete by gain per cost rather than by gain."""
    quotas: dict[str, Any] = field(default_factory=dict)
    """{column: {value: {min: .., max: ..}}}: picks of a value, as a number or as a share of n below 1; '*' stands for
    every value that is not named."""
    min_distance: float | None = None
    """Rows nearer than this (1 - cosine of the features) to an earlier pick or a known row are not picked."""
    near_target: str = "flag"
    """What to do with rows nearly equal to a target: flag them in the result, exclude them, or ignore it."""
    target_distance: float = 0.001
    """How near (1 - cosine of the features) is nearly equal."""
    share: float | None = None
    """Stop once this share of what the whole pool could teach about the targets is learnt. null: never."""
    exclude: str | None = None
    """Parquet of ids (column pool.id_column) that may not be picked."""
    include: str | None = None
    """Parquet of ids of pool rows that are picked already: the posterior is conditioned on them first."""

    def check_limits(self) -> None:
        """Raise ConfigError naming the option."""
        require(
            self.budget is None or is_positive(self.budget), "selection.budget", self.budget, "give a positive number"
        )
        require(isinstance(self.per_cost, bool), "selection.per_cost", self.per_cost, "give true or false")
        priced = not self.per_cost or self.cost_column is not None
        require(priced, "selection.per_cost", self.per_cost, "set selection.cost_column too")
        for option, most in (("min_distance", 2.0), ("target_distance", 2.0), ("share", 1.0)):
            value = getattr(self, option)
            usable = value is None or (is_positive(value) and value <= most)
            require(usable, f"selection.{option}", value, f"give a number above 0, at most {most:g}")
        words = ", ".join(NEAR_TARGET_WORDS)
        require(self.near_target in NEAR_TARGET_WORDS, "selection.near_target", self.near_target, f"use one of {words}")
        require(isinstance(self.quotas, Mapping), "selection.quotas", self.quotas, _QUOTA_FORM)
        for column, values in self.quotas.items():
            require(isinstance(values, Mapping) and len(values) > 0, f"selection.quotas.{column}", values, _QUOTA_FORM)
            for value, bounds in values.items():
                _check_bounds(f"selection.quotas.{column}.{value}", bounds)

    @property
    def limiting(self) -> list[str]:
        """Names of the options that are set and only a sequential rule can obey."""
        names = ("budget", "per_cost", "quotas", "min_distance", "share")
        excluding = ["near_target"] if self.near_target == "exclude" else []
        return [name for name in names if getattr(self, name)] + excluding


_QUOTA_FORM = "write {column: {value: {min: 10, max: 0.3}}}"


def _check_bounds(option: str, bounds: Any) -> None:
    require(
        isinstance(bounds, Mapping) and {*bounds} <= {"min", "max"} and len(bounds) > 0, option, bounds, _QUOTA_FORM
    )
    for side, bound in bounds.items():
        share = isinstance(bound, float) and 0 <= bound < 1
        require(
            is_whole(bound, 0) or share,
            f"{option}.{side}",
            bound,
            "give a number of rows, or a share of selection.n below 1",
        )
