"""Models that a trainer of the user's trains, embeds and scores (trainer.kind=module:factory)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.embedding.encoder import Encoder, OnRows, unheard
from ray_itl.errors import RayItlError, TrainingError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.rounds.classes import OTHER
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.labelled import Labelled
from ray_itl.rounds.model import Trained
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import id_arrow_type
from ray_itl.text import error_summary
from ray_itl.training.inputs import reject_nulls
from ray_itl.training.round_trainer import RoundTrainer, TrainerFolder, TrainerSpec
from ray_itl.training.seeds import derive_seed

_SAMPLE_ROWS = 2
_EXAMPLES = "examples.parquet"
LABEL = "label"
"""The column of labels in what a trainer reads, whatever it is called where they come from."""


class OwnTrainer:
    """A model that only its trainer knows (see `RoundModel`)."""

    def __init__(self, settings: FineTuneSettings, run: Path) -> None:
        """Build the trainer, which checks it.

        Raises:
            ConfigError: it cannot be imported, called, or lacks something.
        """
        self._settings, self._run = settings, run
        trainer = settings.trainer
        self._spec = TrainerSpec(trainer.kind, trainer.options, settings.embedding.kind == "features")
        self._trainer = self._spec.build()
        self._heldout = run / "heldout.parquet"

    def ready(self, tell: Callable[[str | None], None]) -> AbstractContextManager[None]:
        """See `RoundModel.ready`: the trainer starts what it needs when it is asked."""
        del tell
        return nullcontext()

    def remarks(self, kind: pa.DataType) -> list[str]:
        """See `RoundModel.remarks`: the trainer alone knows."""
        del kind
        return []

    def encode(self, column: pa.Array) -> pa.Array:
        """See `RoundModel.encode`."""
        return _without_nulls(column)

    def embedder(self, data: TuningData, checkpoint: str | None) -> TrainerEmbedder:
        """See `RoundModel.embedder`."""
        sample = data.raw(data.targets, np.arange(min(_SAMPLE_ROWS, data.targets.num_rows)))
        return TrainerEmbedder(self._spec, checkpoint, self._settings.embedding.batch_size, sample)

    def before_training(self, data: TuningData) -> Trained:
        """See `RoundModel.before_training`."""
        if not self._heldout.exists():
            positions = np.arange(data.heldout.num_rows)
            data.heldout_classes()  # refuses strange ones
            table = self._rows(data, data.heldout, positions)
            if data.objective == "classification":
                label = data.options.label_column
                table = table.append_column(LABEL, data.heldout.take(positions, [label]).column(label))
            write_parquet_table(self._heldout, table)
        folder = TrainerFolder(self._spec, RoundFolder(self._run, 0).path)
        return Trained(folder.scores(self._trainer, None, self._heldout))

    def write_examples(self, data: TuningData, folder: RoundFolder, labelled: Labelled) -> None:
        """See `RoundModel.write_examples`."""
        table = self._rows(data, data.pool, labelled.positions)
        table = table.add_column(0, "id", pa.array(labelled.ids, id_arrow_type(data.pool.id_kind)))
        if labelled.labels is not None:
            # Of no class is null: beside numbers there can be no text.
            labels = [None if label == OTHER else label for label in labelled.labels]
            table = table.append_column(LABEL, pa.array(labels))
        write_parquet_table(folder.path / _EXAMPLES, table)

    def train(self, folder: RoundFolder) -> Trained:
        """See `RoundModel.train`."""
        last = self.checkpoint_after(folder.number - 1)
        previous = None if last is None else Path(last)
        seed = derive_seed(self._settings.rounds.seed, "round", folder.number)
        mine = TrainerFolder(self._spec, folder.path)
        return Trained(mine.fit(self._trainer, folder.path / _EXAMPLES, previous, self._heldout, seed).scores)

    def checkpoint_after(self, number: int) -> str | None:
        """See `RoundModel.checkpoint_after`."""
        for earlier in range(number, 0, -1):
            path = TrainerFolder(self._spec, RoundFolder(self._run, earlier).path).checkpoint()
            if path is not None:
                return str(path)
        return None

    def _rows(self, data: TuningData, rows: RowSource, positions: np.ndarray) -> pa.Table:
        """Return the columns that the trainer reads."""
        columns = list(dict.fromkeys([data.options.raw_column, *self._settings.trainer.columns]))
        return rows.take(positions, columns)


class TrainerEmbedder(Encoder):
    """The encoder that a trainer is; pickles as names."""

    prepares_beside = False  # there is nothing to prepare

    def __init__(self, spec: TrainerSpec, checkpoint: str | None, window: int, sample: pa.Array) -> None:
        """Ask the trainer for the embeddings of a few rows, to see that it gives any and of which dimension.

        Raises:
            InputError, TrainingError: as `prepare` and `embed`.
        """
        self.window, self.dim = window, 0
        self._spec, self._checkpoint = spec, checkpoint
        self._trainer: RoundTrainer | None = spec.build()
        self.dim = self.embed(self.prepare(sample)).shape[1]

    def identity(self) -> dict[str, str]:
        """See `Encoder.identity`."""
        return {"trainer": repr(self._spec), "checkpoint": str(self._checkpoint)}

    def prepare(self, column: pa.Array) -> pa.Array:
        """See `Encoder.prepare`: the rows as they are."""
        return _without_nulls(column)

    def embed(self, prepared: pa.Array, on_rows: OnRows = unheard) -> np.ndarray:
        """See `Encoder.embed`; TrainingError where the trainer failed, or returned something else."""
        self._trainer = self._trainer or self._spec.build()
        who = f"`features` of trainer.kind={self._spec.name}"
        checkpoint = None if self._checkpoint is None else Path(self._checkpoint)
        try:
            rows = np.asarray(self._trainer.features(checkpoint, prepared), dtype=np.float32)
        except RayItlError:
            raise
        except Exception as error:
            raise TrainingError(f"{who} failed ({error_summary(error)})") from error
        if rows.ndim != 2 or len(rows) != len(prepared) or not rows.shape[1] or self.dim not in (0, rows.shape[1]):
            wanted = f"{len(prepared)} x {self.dim or 'D'}"
            raise TrainingError(f"{who} returned an array of shape {rows.shape}: return one of {wanted}")
        on_rows(len(rows))
        return np.ascontiguousarray(rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trainer": None}


def _without_nulls(column: pa.Array) -> pa.Array:
    reject_nulls(column, "drop the row")
    return column
