"""Options that limit a selection: costs and budget, quotas, likeness, and when it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_itl.curation.percentage import cosine_or_percentage
from ray_itl.options.checks import Check, is_number, is_whole, one_of, positive, positive_up_to, require, true_or_false
from ray_itl.options.declare import Options, option
from ray_itl.options.text import plain

_QUOTA_FORM = "write {column: {value: {min: 10, max: 0.3}}}"


@dataclass(kw_only=True)
class LimitSettings(Options, group="selection"):
    """What limits the picks; part of SelectionSettings."""

    cost_column: str | None = option(
        None, "Column of what a row costs (tokens, bytes, money), > 0. null: every row costs 1.", per_tick=True
    )
    budget: float | None = option(
        None,
        "What all picks together may cost; never exceeded. Rows that no longer fit are passed over. null: no limit.",
        positive,
        per_tick=True,
    )
    per_cost: bool = option(
        False, "Whether rows compete by gain per cost rather than by gain.", true_or_false, per_tick=True
    )
    quotas: dict[str, Any] = option(
        {},
        "Picks of a value, in numbers or shares of selection.n below 1, as {lang: {de: {min: 10}, en: {max: 0.5}}}; "
        "the value '*' stands for every one that is not named.",
        Check(_QUOTA_FORM, lambda value: isinstance(value, Mapping)),
        per_tick=True,
    )
    min_distance: float | None = option(
        None,
        "Rows nearer than this (1 - cosine of the features) to an earlier pick or a known row are not picked.",
        positive_up_to(2),
        per_tick=True,
    )
    min_similarity: Any = option(
        None,
        "Rows whose cosine (of the features) to every target is less are not picked. 95%: the number below which 95% "
        "of the rows that may be picked lie (of a tick: of its candidates). null: any row may be picked.",
        cosine_or_percentage,
        per_tick=True,
    )
    near_target: str = option(
        "flag",
        "What to do with rows nearly equal to a target: flag them in the result, exclude them, or ignore it.",
        one_of("flag", "exclude", "ignore"),
        per_tick=True,
    )
    target_distance: float = option(
        0.001, "How near (1 - cosine of the features) is nearly equal.", positive_up_to(2), per_tick=True
    )
    share: float | None = option(
        None,
        "Stop once this share of what the whole pool could teach about the targets is learnt. null: never.",
        positive_up_to(1),
        per_tick=True,
    )
    exclude: str | None = option(
        None,
        "A file of ids (column pool.id_column), of any kind that a pool may be of, that may not be picked.",
        decides=False,  # the ids themselves do
    )
    include: str | None = option(
        None,
        "A file of ids, likewise, of pool rows that are picked already: the posterior is conditioned on them first.",
        decides=False,  # the ids themselves do
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        if isinstance(self.quotas, Mapping):
            self.quotas = plain("selection.quotas", self.quotas)
        if is_number(self.min_similarity):
            self.min_similarity = float(self.min_similarity)
        priced = not self.per_cost or self.cost_column is not None
        require(priced, "selection.per_cost", self.per_cost, "set selection.cost_column too")
        for column, values in self.quotas.items():
            require(isinstance(values, Mapping) and len(values) > 0, f"selection.quotas.{column}", values, _QUOTA_FORM)
            for value, bounds in values.items():
                _check_bounds(f"selection.quotas.{column}.{value}", bounds)

    @property
    def limiting(self) -> list[str]:
        """Names of the options that are set and only a sequential rule can obey."""
        names = [name for name in ("budget", "per_cost", "quotas", "min_distance", "share") if getattr(self, name)]
        floor = [] if self.min_similarity is None else ["min_similarity"]
        return names + floor + (["near_target"] if self.near_target == "exclude" else [])

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`; runs of earlier versions had no floor."""
        return None if name == "min_similarity" and self.min_similarity is None else super().identity_of(name)


def _check_bounds(option: str, bounds: Any) -> None:
    formed = isinstance(bounds, Mapping) and {*bounds} <= {"min", "max"} and len(bounds) > 0
    require(formed, option, bounds, _QUOTA_FORM)
    for side, bound in bounds.items():
        usable = is_whole(bound, 0) or (isinstance(bound, float) and 0 <= bound < 1)
        require(usable, f"{option}.{side}", bound, "give a number of rows, or a share of selection.n below 1")
