"""The model of a run, as rounds see it: what reads rows, embeds them, is trained, and is scored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from ray_itl.embedding.encoder import Encoder
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.labelled import Labelled
from ray_itl.rounds.round_folder import RoundFolder


@dataclass(frozen=True)
class Trained:
    """What a round's training gave."""

    heldout: dict[str, Any]
    """Scores on the held-out rows."""
    confusion: list[list[int]] | None = None
    """[class, class that the model says, held-out rows], classes by their number; None where they are not known."""
    stopped: str = ""
    """Why training stopped, in words; "" where it is not known."""


class RoundModel(Protocol):
    """A model, its checkpoints in the run directory, and who trains it."""

    def ready(self, tell: Callable[[str | None], None]) -> AbstractContextManager[None]:
        """Hold what training needs for a block; `tell` is told what is waited for.

        Raises:
            ConfigError: an option cannot be used here.
        """
        ...

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Return what users should know of how rows of this type are read, a line each."""
        ...

    def encode(self, column: pa.Array) -> Any:
        """Return raw rows as what the model learns from; InputError for one that it cannot read, or not learn from."""
        ...

    def embedder(self, data: TuningData, checkpoint: str | None) -> Encoder:
        """Return what embeds rows with the weights of a checkpoint (None: those that the run begins with)."""
        ...

    def before_training(self, data: TuningData) -> Trained:
        """Score the model as it comes, and keep the held-out rows for later rounds."""
        ...

    def write_examples(self, data: TuningData, folder: RoundFolder, labelled: Labelled) -> None:
        """Write what a round trains on into its folder; InputError for a row that cannot be read."""
        ...

    def train(self, folder: RoundFolder) -> Trained:
        """Train on at least one example, or return what the same training left in the round's folder.

        Raises:
            DivergedError, TrainingError: as a trainer's.
        """
        ...

    def checkpoint_after(self, number: int) -> str | None:
        """Return the newest checkpoint after round `number`: its own, else one before, else the one to begin with."""
        ...
