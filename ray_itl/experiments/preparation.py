"""Everything that can be prepared, by name, and the options of the job that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray_itl.experiments import cifar10, mnist, models, passages, wordnet
from ray_itl.experiments.cache import Notify
from ray_itl.options.checks import one_of
from ray_itl.options.declare import Options, option

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
class PrepareSettings(Options):
    """Options of `ray-itl prepare`."""

    data: str = option(
        "",
        "mnist, fashion-mnist, cifar10, wordnet, passages: Parquet files, some with frozen features. efficientnet, "
        "minilm, smollm2: local files of a model. all: everything.",
        one_of(*PREPARATIONS, ALL),
        decides=False,
    )
    cache: str | None = option(
        None, "Folder where they go. null: $RAY_ITL_CACHE, else ~/.cache/ray_itl.", decides=False
    )

    def names(self) -> list[str]:
        """Return the names of PREPARATIONS to go through."""
        return list(PREPARATIONS) if self.data == ALL else [self.data]
