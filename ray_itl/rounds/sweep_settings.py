"""Every option of a sweep: its variants, by name or by a grid of values, and its seeds."""

from __future__ import annotations

import fnmatch
import itertools
import re
from dataclasses import dataclass
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.options.checks import require, whole
from ray_itl.options.declare import Options, option

_FOLDER_NAME = re.compile(r"\w[\w.+-]{0,99}")


@dataclass
class SweepSettings(Options, group="sweep"):
    """Several variants and seeds of one fine-tuning, each a run with a directory of its own."""

    variants: dict[str, Any] = option(
        {},
        "Name -> options that differ, as {vtl: {acquisition.name: vtl}}. Empty, as grid: a single run.",
        decides=False,
    )
    grid: dict[str, Any] = option(
        {},
        "Option -> values: beside variants, one for every combination, named by its values. {acquisition.name: "
        "[itl,vtl], rounds.batch: [1,5]} has itl+batch-1, itl+batch-5, and so on.",
        decides=False,
    )
    first_seed: int = option(
        0,
        "The first of the seeds. What is chosen by some seeds is confirmed by others: tune with 0, confirm with 100.",
        whole(0),
        decides=False,
    )
    seeds: int = option(
        1,
        "So many seeds, one after another, for every variant; the task is drawn anew with each.",
        whole(1),
        decides=False,
    )
    only: list[str] = option(
        [], "Variants to run, as [itl,random]; * stands for any letters. Empty: all.", decides=False
    )
    num_processes: int = option(1, "Runs at a time, one thread each.", whole(1), decides=False)
    reference: str = option("random", "The variant that others are compared with.", decides=False)
    other_references: list[str] = option(
        ["nearest"], "Further variants that others are compared with, where there are any of that name.", decides=False
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        for option_name, values in self.grid.items():
            usable = isinstance(values, list) and len(values) > 0
            require(usable, f"sweep.grid.{option_name}", values, "list its values, as [1,10]")
        for where, names in (
            ("sweep.variants", self.variants),
            ("sweep.grid", [name for name, _ in self._combinations]),
        ):
            unusable = [str(name) for name in names if not _FOLDER_NAME.fullmatch(str(name))]
            if unusable:
                raise ConfigError(
                    f"{where} cannot be named {unusable[0]!r}: names become folders of run.dir, so use letters, "
                    "digits, and _ - + . inside"
                )
        known = self.all_variants
        unknown = [name for name in self.only if not fnmatch.filter(known, name)]
        if unknown:
            raise ConfigError(f"sweep.only names {', '.join(sorted(unknown))}: use some of {', '.join(known)}")

    @property
    def all_variants(self) -> dict[str, dict[str, Any]]:
        """Name -> options that differ, of variants and grid.

        Raises:
            ConfigError: two are called the same.
        """
        named = {str(name): dict(changes or {}) for name, changes in self.variants.items()}
        for name, changes in self._combinations:
            if name in named:
                raise ConfigError(f"sweep.grid has two variants {name!r}, or sweep.variants has it, too: rename one")
            named[name] = changes
        return named

    @property
    def chosen_variants(self) -> dict[str, dict[str, Any]]:
        """Those of all variants that are to run."""
        known = self.all_variants
        chosen = {name for pattern in self.only or ["*"] for name in fnmatch.filter(known, pattern)}
        return {name: changes for name, changes in known.items() if name in chosen}

    @property
    def _combinations(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and options of every variant of the grid, the last option's values next to each other."""
        if not self.grid:
            return []
        made = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        return [("+".join(_value_name(*each) for each in changes.items()), changes) for changes in made]


def _value_name(option_name: str, value: object) -> str:
    """Return a value as a part of a variant's name: words alone, all else with the last part of the option."""
    if isinstance(value, str):
        return re.sub(r"[^\w.-]", "-", value)
    word = {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value
    return f"{option_name.rpartition('.')[2]}-{word}"
