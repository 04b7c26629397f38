"""Everything that can be prepared, by name, and the options of the job that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray_itl.errors import ConfigError
from ray_itl.experiments import cifar10, mnist, models, passages, wordnet
from ray_itl.experiments.cache import Notify

ALL = "all"
PREPARATIONS: dict[str, Callable[[Path, Notify], Path]] = {
    "mnist": mnist.prepare,
    "fashion-mnist": mnist.prepare_fashion,
    "cifar10": cifar10.prepare,
    "wordnet": wordnet.prepare,
    "passages": passages.prepare,
    "efficientnet": lambda cache, _: models.efficientnet_lite0_path(cache),
    "minilm": lambda cache, _: models.minilm_path(cache),
    "smollm2": lambda cache, _: models.smollm2_path(cache),
}
"""Each takes the cache folder and a function for lines of progress, and returns where the result lies."""


@dataclass
class PrepareSettings:
    """Options of `ray-itl prepare`."""

    data: str = ""
    """A name of PREPARATIONS, or all."""
    cache: str | None = None
    """The cache folder; None: see `cache_root`."""

    def __post_init__(self) -> None:
        if self.data != ALL and self.data not in PREPARATIONS:
            raise ConfigError(f"data={self.data} cannot be used: use one of {', '.join(PREPARATIONS)}, {ALL}")

    def names(self) -> list[str]:
        """Return the names of PREPARATIONS to go through."""
        return list(PREPARATIONS) if self.data == ALL else [self.data]
