"""Models that are learners, trained by the trainers that come along."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ray_itl.embedding.embedder import Embedder
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.errors import DivergedError, InputError
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.divergence import note_divergence
from ray_itl.rounds.labelled import Labelled
from ray_itl.rounds.model import Trained
from ray_itl.rounds.resources import make_trainer
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.sources.schema import which_row
from ray_itl.training.adapter_gradients import adapter_layers
from ray_itl.training.checkpoint import remove_checkpoint
from ray_itl.training.examples import Examples, read_examples, write_examples
from ray_itl.training.inputs import without_predictions
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.objectives import CONFUSION, evaluate, not_a_number, training_objective
from ray_itl.training.registry import ModelSpec, load
from ray_itl.training.seeds import derive_seed
from ray_itl.training.trainer import Trainer, TrainTask

_SHORT_ROWS = (
    "embedding.kind=lora_gradient without embedding.unit_norm=true: the fewer tokens a row has, the larger its "
    "gradient is, and large ones are picked first"
)


def first_weights_seed(seed: int) -> int:
    """Return the seed of the weights that a run begins with, where no checkpoint gives them."""
    return derive_seed(seed, "weights", 0)


class LearnerModel:
    """A model by `model.*` (see `RoundModel`)."""

    def __init__(self, settings: FineTuneSettings, run: Path) -> None:
        """Take the options and the run directory; nothing is loaded yet."""
        self._settings, self._run = settings, run
        self._spec = ModelSpec(settings.model.name, settings.model.options)
        self._seed = first_weights_seed(settings.rounds.seed)
        self._heldout = run / "heldout.safetensors"
        self._trainer: Trainer | None = None

    @contextmanager
    def ready(self, tell: Callable[[str | None], None]) -> Iterator[None]:
        """See `RoundModel.ready`."""
        if self._settings.embedding.kind == "lora_gradient":
            adapter_layers(self._reader)  # raises where there are none
        trainer = make_trainer(self._settings.trainer, self._run, tell)
        self._trainer = trainer
        try:
            yield
        finally:
            self._trainer = None
            trainer.close()

    def remarks(self, kind: pa.DataType) -> list[str]:
        """See `RoundModel.remarks`."""
        told = self._reader.remarks(kind)
        embedding = self._settings.embedding
        return [*told, _SHORT_ROWS] if embedding.kind == "lora_gradient" and not embedding.unit_norm else told

    def encode(self, column: pa.Array) -> Inputs:
        """See `RoundModel.encode`."""
        inputs = self._reader.encode(column)
        is_language = self._settings.model.objective == "causal_lm"
        if is_language and (short := without_predictions(inputs)):
            raise InputError(
                f"{which_row('', short[0])}: no answer begins within model.options.max_tokens; drop the row"
            )
        return inputs

    def embedder(self, data: TuningData, checkpoint: str | None) -> Embedder:
        """See `RoundModel.embedder`."""
        del data
        options = self._settings.embedding
        embedding = EmbeddingSettings(
            options.kind, options.unit_norm, options.projection_dim, batch_size=options.batch_size
        )
        # Workers of a cluster may have GPUs where this process has none: each embeds on what it has.
        device = "auto" if self._settings.trainer.use_gpu else "cpu"
        return Embedder(self._spec, checkpoint, self._seed, embedding, device)

    def before_training(self, data: TuningData) -> Trained:
        """See `RoundModel.before_training`; InputError for weights that are no numbers."""
        settings = self._settings
        learner = load(self._spec, settings.model.checkpoint, self._seed)
        if not self._heldout.exists():
            inputs = learner.encode(data.raw(data.heldout, np.arange(data.heldout.num_rows)))
            write_examples(self._heldout, Examples(inputs, _as_tensor(data.heldout_classes())))
        examples = read_examples(self._heldout)
        objective = training_objective(settings.model.objective, examples, settings.training.reweight_classes)
        scores = evaluate(learner, examples, objective, settings.training.evaluation_batch_size)
        if (odd := not_a_number(scores)) is not None:
            raise InputError(
                f"held-out rows score {odd} before any training: the weights of model.checkpoint="
                f"{settings.model.checkpoint} are no numbers, or too large; give others"
            )
        return Trained(scores, scores.pop(CONFUSION, None))

    def write_examples(self, data: TuningData, folder: RoundFolder, labelled: Labelled) -> None:
        """See `RoundModel.write_examples`."""
        classes = _as_tensor(labelled.classes)
        if not _are_there(folder.examples, classes):
            inputs = self._reader.encode(data.raw(data.pool, labelled.positions))
            write_examples(folder.examples, Examples(inputs, classes))

    def train(self, folder: RoundFolder) -> Trained:
        """See `RoundModel.train`."""
        assert self._trainer is not None, "trains while it is ready"
        tasks = [self._task(folder, repeat) for repeat in range(self._settings.rounds.repeats)]
        try:
            results = [self._trainer.fit(task) for task in tasks]
        except DivergedError as error:
            raise note_divergence(folder, error) from error
        confusion = results[0].metrics.get(CONFUSION)
        scores = [{name: score for name, score in each.metrics.items() if name != CONFUSION} for each in results]
        for task in tasks[1:]:
            remove_checkpoint(task.output)
        return Trained(mean_scores(scores), confusion, results[0].stopped)

    def checkpoint_after(self, number: int) -> str | None:
        """See `RoundModel.checkpoint_after`."""
        for earlier in range(number, 0, -1):
            path = RoundFolder(self._run, earlier).checkpoint
            if path.exists():
                return str(path)
        return self._settings.model.checkpoint

    @cached_property
    def _reader(self) -> Learner:
        """A model to encode rows, which never depends on weights."""
        return self._spec.build(self._seed)

    def _task(self, folder: RoundFolder, repeat: int) -> TrainTask:
        model = self._settings.model
        is_fresh, last = model.start == "fresh", self.checkpoint_after(folder.number - 1)
        which = ("round", folder.number, *([repeat] if repeat else []))
        seed = derive_seed(self._settings.rounds.seed, *which)
        output = folder.path / f"repeat-{repeat}.safetensors" if repeat else folder.checkpoint
        return TrainTask(
            model=self._spec,
            examples=str(folder.examples),
            output=str(output),
            settings=self._settings.training,
            # The first training goes on from the very weights that embedded the pool.
            seed=self._seed if last is None and not is_fresh and not repeat else seed,
            start=model.checkpoint if is_fresh else last,
            reset_head=model.start == "head",
            objective=model.objective,
            trainable_only=model.trainable_only,
            heldout=str(self._heldout),
        )


def mean_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of scores that have the same names; those of groups of scores are groups."""
    return {
        name: mean_scores([each[name] for each in scores])
        if isinstance(first, Mapping)
        else math.fsum(each[name] for each in scores) / len(scores)
        for name, first in scores[0].items()
    }


def _as_tensor(classes: list[int] | None) -> torch.Tensor | None:
    return None if classes is None else torch.tensor(classes, dtype=torch.int64)


def _are_there(path: Path, classes: torch.Tensor | None) -> bool:
    """Whether an earlier try wrote these examples; labels may have been corrected since."""
    if not path.exists():
        return False
    try:
        found = read_examples(path).labels
    except InputError:  # damaged: they are made again
        return False
    return found is None if classes is None else found is not None and torch.equal(found, classes)
