"""Options of who trains between rounds."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from ray_itl.options.checks import Check, are_distinct_names, positive, require, whole
from ray_itl.options.declare import Options, default_of, option

_KINDS = ("local", "ray", "ray_long_lived")


TAKEN = ("id", "label")
"""Columns that a trainer of the user's gets of its own, whatever they are called where they come from."""


_OF_OWN = {"options", "columns"}
"""Options that only a trainer of the user's has."""


def is_own(kind: object) -> bool:
    """Whether a kind of trainer names one of the user's, module:factory."""
    return isinstance(kind, str) and bool(re.fullmatch(r"[\w.]+:\w+", kind))


@dataclass
class TrainerSettings(Options, group="trainer"):
    """Who trains."""

    kind: str = option(
        "local",
        "local (this process), ray (a Ray Train run a round), ray_long_lived (one Ray Train run for all rounds), or "
        "module:factory: a trainer of your own, in place of model.* and training.*.",
        Check(f"use one of {', '.join(_KINDS)}, or module:factory", lambda kind: kind in _KINDS or is_own(kind)),
    )
    options: dict[str, Any] = option({}, "Keyword arguments of a trainer of your own.")
    columns: list[str] = option(
        [],
        "Columns of pool and held-out rows that a trainer of your own gets besides data.raw_column.",
        Check(
            "list names of columns, each once, without id and label", lambda names: are_distinct_names(names, *TAKEN)
        ),
    )
    num_workers: int = option(1, "Workers that train together.", whole(1), decides=False)
    use_gpu: bool = option(
        False,
        "Whether each worker has a GPU. Rows are embedded on that of the process that embeds, where it has one.",
        decides=False,
    )
    cpus_per_worker: float = option(1.0, "CPUs a worker reserves.", decides=False)
    max_failures: int = option(2, "How often lost workers are replaced.", whole(0), decides=False)
    restart_deadline_s: float = option(
        300.0,
        "Seconds within which workers must find places, when they start and once lost (on Ray).",
        positive.said("give seconds > 0"),
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        defaults = {each.name: default_of(each) for each in fields(self)}
        of_others = _OF_OWN if not self.is_own else set(defaults) - _OF_OWN - {"kind"}
        why = (
            "is for a trainer of your own, trainer.kind=module:factory"
            if not self.is_own
            else (f"is for trainers that come along, not for trainer.kind={self.kind}: hand it over in trainer.options")
        )
        for name in sorted(of_others):
            require(getattr(self, name) == defaults[name], f"trainer.{name}", getattr(self, name), f"it {why}")

    @property
    def is_own(self) -> bool:
        """Whether it is a trainer of the user's."""
        return is_own(self.kind)

    @property
    def is_on_ray(self) -> bool:
        """Whether trainers of ours run on Ray; one of the user's starts what it needs itself."""
        return self.kind != "local" and not self.is_own

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`: those that come along all train alike."""
        return super().identity_of(name) if self.is_own else None
