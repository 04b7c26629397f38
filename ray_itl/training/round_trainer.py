"""Rounds with other people's trainers: what `trainer.kind=module:factory` has to return, and how it is called.

    class MyTrainer:
        score_name = "accuracy"
        higher_is_better = True

        def train(self, examples, previous, folder, seed): ...   # -> path of the checkpoint, within folder
        def features(self, checkpoint, column): ...              # -> n x D array
        def score(self, checkpoint, heldout): ...                # -> {"accuracy": 0.93, ...}

The factory is called with `trainer.options` as keyword arguments, in the run's own process and in every process that
embeds rows, so it should do little: models are loaded by the methods. Checkpoints are the trainer's own affair; nothing
but their paths is looked at here.
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from ray_itl.errors import ConfigError, RayItlError, TrainingError
from ray_itl.extras import load_by_name
from ray_itl.io.atomic import sync_tree, write_atomic, write_json
from ray_itl.text import error_summary
from ray_itl.training.registry import check_options

_RESULT = "checkpoint.json"
_FOLDER = "checkpoint"
_TRACEBACK = "trainer-error.txt"
_T = TypeVar("_T")


class RoundTrainer(Protocol):
    """Trains, embeds and scores a model of its own, between the rounds of `ray-itl finetune`."""

    score_name: str
    """The score that learning curves show: a key of what `score` returns."""
    higher_is_better: bool
    """Whether more of it is better."""

    def train(self, examples: Path, previous: Path | None, folder: Path, seed: int) -> Path:
        """Train on every row labelled so far.

        It is called in the run's own process, which on a cluster is connected to it (`cluster.num_shards` not 0, or a
        submitted job): start Ray Train or tasks from here, as `training.trl_sft` does.

        Args:
            examples: Parquet with the columns `id`, `data.raw_column`, those of `trainer.columns`, and, where labels
                are asked for, `label` (null where people wrote (other), or, of language models, nothing); the rows in
                the order in which they were picked.
            previous: Checkpoint of the round before; None before the first. Go on from it, or begin anew.
            folder: For all that is to be kept, on storage that every node sees. A try that was killed left there what
                it had: go on from that, or overwrite it.
            seed: Of this round. The same arguments should give the same model.

        Returns:
            The checkpoint, a file or folder within `folder`. It is on disk when this returns.
        """
        ...

    def features(self, checkpoint: Path | None, column: pa.Array) -> np.ndarray:
        """Return the embeddings of n rows, n x D with one D for all checkpoints, by which rows are selected.

        It is called wherever the pool is, batch by batch with the same checkpoint many times over, so keep the model
        that was loaded last. Not needed where `embedding.kind=column`.

        Args:
            checkpoint: What `train` returned last; None before the first training.
            column: Values of `data.raw_column`, none of them null.
        """
        ...

    def score(self, checkpoint: Path | None, heldout: Path) -> Mapping[str, float]:
        """Return scores on the held-out rows, by name.

        Args:
            checkpoint: As for `features`. For None an empty mapping will do, if there is nothing to score yet.
            heldout: Parquet with the columns of `train`'s examples but for `id`.
        """
        ...


@dataclass(frozen=True)
class TrainerSpec:
    """A trainer as plain data, which every process turns into the same trainer."""

    name: str
    """module:factory."""
    options: Mapping[str, Any]
    """Keyword arguments of the factory."""
    needs_features: bool = True
    """Whether rows are embedded by it."""

    def build(self) -> RoundTrainer:
        """Return the trainer.

        Raises:
            ConfigError: it cannot be imported or called with these options, or what it returns lacks something (names
                that); says how the protocol is.
        """
        factory = load_by_name(self.name, {}, option="trainer.kind")
        check_options(factory, self.name, self.options, option="trainer.options")
        try:
            trainer = factory(**self.options)
        except RayItlError:
            raise
        except Exception as error:
            raise ConfigError(f"trainer.kind={self.name} cannot be built ({error_summary(error)})") from error
        if (problem := _problem(trainer, self.needs_features)) is not None:
            raise ConfigError(
                f"trainer.kind={self.name} gave a {type(trainer).__name__} {problem}: see RoundTrainer in "
                "ray_itl/training/round_trainer.py for what it must have"
            )
        return trainer


@dataclass(frozen=True)
class RoundTraining:
    """What a trainer made in a round."""

    checkpoint: Path
    scores: dict[str, float]


class TrainerFolder:
    """A trainer's part of the folder of one round: the checkpoint, and last the result, which says that it is there."""

    def __init__(self, spec: TrainerSpec, path: Path) -> None:
        """Name the folder, which must exist before `fit`."""
        self._spec = spec
        self._path = path
        self.checkpoint_folder = path / _FOLDER

    def checkpoint(self) -> Path | None:
        """Return what a finished training left here, if one did."""
        found = self._read()
        return None if found is None else self.checkpoint_folder / found["checkpoint"]

    def fit(
        self, trainer: RoundTrainer, examples: Path, previous: Path | None, heldout: Path, seed: int
    ) -> RoundTraining:
        """Train and score, or return what the same training left.

        Raises:
            TrainingError: the trainer failed (names the file with the traceback), or broke the protocol; the same
                command asks it again.
        """
        task = self._identity(examples, previous, seed)
        found = self._read()
        if found is not None and found["task"] == task:
            return RoundTraining(self.checkpoint_folder / found["checkpoint"], found["scores"])
        self.checkpoint_folder.mkdir(exist_ok=True)
        returned = self._asked("train", lambda: trainer.train(examples, previous, self.checkpoint_folder, seed))
        checkpoint = self._within(returned)
        sync_tree(self.checkpoint_folder)
        scores = self.scores(trainer, self.checkpoint_folder / checkpoint, heldout)
        write_json(self._path / _RESULT, {"task": task, "checkpoint": str(checkpoint), "scores": scores})
        return RoundTraining(self.checkpoint_folder / checkpoint, scores)

    def scores(self, trainer: RoundTrainer, checkpoint: Path | None, heldout: Path) -> dict[str, float]:
        """Return a trainer's scores as plain numbers; raises what `fit` does."""
        returned = self._asked("score", lambda: trainer.score(checkpoint, heldout))
        try:
            scores = {str(name): float(value) for name, value in dict(returned).items()}
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{self._who('score')} returned no mapping of names to numbers: {error}") from error
        if odd := [f"{name}={value}" for name, value in scores.items() if not np.isfinite(value)]:
            raise TrainingError(f"{self._who('score')} returned {odd[0]}: the training diverged, or the score is wrong")
        if trainer.score_name not in scores and (scores or checkpoint is not None):
            raise TrainingError(
                f"{self._who('score')} returned {', '.join(scores) or 'nothing'} without its score_name, "
                f"{trainer.score_name}"
            )
        return scores

    def _asked(self, method: str, call: Callable[[], _T]) -> _T:
        """Call a method of a trainer; whatever it raises ends the run in one line, and its traceback is kept."""
        try:
            return call()
        except RayItlError:
            raise
        except Exception as error:
            kept = self._path / _TRACEBACK
            self._path.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, traceback.format_exc().encode())
            raise TrainingError(
                f"{self._who(method)} failed ({error_summary(error)}; {kept} has the traceback): once it works, the "
                "same command goes on from there"
            ) from error

    def _who(self, method: str) -> str:
        return f"`{method}` of trainer.kind={self._spec.name} in {self._path.name}"

    def _within(self, returned: Any) -> Path:
        """Return a checkpoint's path relative to its folder."""
        try:
            path = Path(returned)
            path = path if path.is_absolute() else self.checkpoint_folder / path
            inside = path.resolve(strict=True).relative_to(self.checkpoint_folder.resolve())
        except (TypeError, ValueError, OSError) as error:
            raise TrainingError(
                f"{self._who('train')} returned {returned!r}: return the path of a file or folder that it left within "
                f"{self.checkpoint_folder}"
            ) from error
        return inside

    def _identity(self, examples: Path, previous: Path | None, seed: int) -> str:
        """Return a digest of what decides a training; earlier rounds stay as they are, so their names will do."""
        with examples.open("rb") as file:
            rows = file_digest(file, "sha256").hexdigest()
        run = self._path.parents[1]
        before = None if previous is None else str(previous.relative_to(run))
        task = [self._spec.name, dict(self._spec.options), rows, before, seed]
        return sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self._path / _RESULT).read_text())
            return found if (self.checkpoint_folder / found["checkpoint"]).exists() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _problem(trainer: Any, needs_features: bool) -> str | None:
    """Return what a trainer lacks, in words; None where nothing."""
    methods = {"train": 4, "score": 2, **({"features": 2} if needs_features else {})}
    for name, count in methods.items():
        method = getattr(trainer, name, None)
        if not callable(method):
            return f"without a method `{name}`"
        try:
            inspect.signature(method).bind(*range(count))
        except TypeError as error:
            return f"whose `{name}` does not take {count} arguments ({error})"
        except ValueError:  # of a built-in, which tells no signature
            continue
    if not isinstance(getattr(trainer, "score_name", None), str):
        return "without `score_name`, the name of a score"
    if not isinstance(getattr(trainer, "higher_is_better", None), bool):
        return "without `higher_is_better`, True or False"
    return None
