"""Options of jobs/finetune.py beyond those of one fine-tuning: a prepared task, and a sweep."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.rounds.settings import FineTuneSettings

_FOLDER_NAME = re.compile(r"\w[\w.+-]{0,99}")


@dataclass
class TaskSettings:
    """A task on real data that is fetched and prepared on first use; fills the options data.*."""

    name: str | None = None
    """mnist, cifar10, wordnet or passages (see ray_itl.datasets). null: data.* says where rows are."""
    options: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    """Where fetched and prepared data live. null: $RAY_ITL_CACHE, else ~/.cache/ray_itl."""


@dataclass
class SweepSettings:
    """Several variants and seeds of one fine-tuning."""

    variants: dict[str, Any] = field(default_factory=dict)
    """Name -> options that differ, as {"acquisition.name": "random"}. Empty: a single run."""
    seeds: int = 1
    """Seeds 0, 1, ... for every variant; the task is drawn anew with each."""
    only: list[str] = field(default_factory=list)
    """Variants to run. Empty: all."""
    num_processes: int = 1
    """Runs at a time, one thread each."""
    reference: str = "random"
    """The variant that others are compared with."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for option in ("seeds", "num_processes"):
            value = getattr(self, option)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"sweep.{option}={value!r} cannot be used: give a whole number of at least 1")
        unusable = [name for name in self.variants if not _FOLDER_NAME.fullmatch(str(name))]
        if unusable:
            raise ConfigError(
                f"sweep.variants cannot be named {unusable[0]!r}: names become folders of run.dir, so use letters, "
                "digits, and _ - + . inside"
            )
        unknown = set(self.only) - set(self.variants)
        if unknown:
            raise ConfigError(f"sweep.only names {', '.join(sorted(unknown))}: use some of {', '.join(self.variants)}")


@dataclass
class FineTuneJobSettings(FineTuneSettings):
    """Everything that `jobs/finetune.py` takes."""

    task: TaskSettings = field(default_factory=TaskSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
