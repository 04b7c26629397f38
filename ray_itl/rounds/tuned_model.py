"""The model that a fine-tuning left, for use: texts or images in, class names and probabilities out."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ray_itl.errors import ConfigError, InputError
from ray_itl.io.image_files import is_image
from ray_itl.options.text import from_yaml
from ray_itl.rounds.classes import OTHER
from ray_itl.rounds.learner_model import first_weights_seed
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.sources.open import readable
from ray_itl.sources.schema import find_column
from ray_itl.training.examples import Examples
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.objectives import CausalLanguageModelling
from ray_itl.training.registry import LEARNERS, ModelSpec, load
from ray_itl.training.round_trainer import TrainerFolder, TrainerSpec


def load_model(
    run_dir: str | os.PathLike[str],
    *,
    after_round: int | None = None,
    device: str = "cpu",
    trust_code: bool = False,
) -> TunedModel:
    """Return the model that a fine-tuning in rounds left in its run directory.

    Weights are read from safetensors alone; nothing is unpickled.

    Args:
        run_dir: Of `ray-itl finetune` or `ActiveFineTuner`; of a sweep, that of one of its runs.
        after_round: The round after which; None for the last that trained.
        device: Of torch, such as "cuda".
        trust_code: Whether to import what the run names as its model, where that is a function of somebody's own
            (module:factory): importing runs it.

    Raises:
        InputError: there is no such run or round, nothing was trained yet, or a file is damaged or of another model.
        ConfigError: the model cannot be built here, is code that was not said to be trusted, or was trained by a
            trainer of the user's (says where its checkpoint is).
    """
    folder = Path(run_dir)
    settings = _settings_of(folder)
    if settings.trainer.is_own:
        raise _of_own_trainer(folder, settings, after_round)
    model = settings.model
    if model.name not in LEARNERS and not trust_code:
        raise ConfigError(
            f"the model of {folder} is made by {model.name!r}, code that comes from elsewhere: if you trust it, pass "
            "trust_code=True"
        )
    checkpoint = _checkpoint(folder, after_round)
    seed = first_weights_seed(settings.rounds.seed)  # of frozen weights, where a checkpoint holds the trained ones only
    learner = load(ModelSpec(model.name, model.options), str(checkpoint), seed)
    return TunedModel(learner.to(torch.device(device)), settings, checkpoint)


class TunedModel:
    """A fine-tuned model: `predict` for classifiers, `perplexity` for language models.

    Attributes:
        learner: The torch module itself, in evaluation mode; of a `causal_lm` or `sentence_encoder` it holds the model
            of transformers as `learner.model` or `learner.encoder`.
        checkpoint: The file that its weights come from.
        classes: The labels that it tells apart, in the order of its outputs: those of data.classes, and "(other)" last
            where rows of no class are an output.
    """

    def __init__(self, learner: Learner, settings: FineTuneSettings, checkpoint: Path) -> None:
        """Take a model with its weights, and the options that it was trained by (see `load_model`)."""
        self.learner = learner
        self.checkpoint = checkpoint
        self.classes: list[Any] = [*settings.data.classes, *([OTHER] if settings.data.others == "class" else [])]
        self._objective = settings.model.objective
        self._column = settings.data.raw_column
        self._batch_size = settings.training.evaluation_batch_size

    def predict(self, rows: Any) -> pa.Table:
        """Return the class of every row.

        Args:
            rows: What the model was trained on: texts; images, as bytes, paths or of pillow; or vectors, as a matrix of
                n x D. In a list, an array of NumPy or Arrow, or a table or frame with the column data.raw_column of the
                run.

        Returns:
            A table with a row for each, in order: `label` (the likeliest class; text, where classes are numbers and one
            is "(other)"), `probability` (its own), and `probabilities` (of all `classes`, in their order).

        Raises:
            InputError: rows that the model cannot read (names the first, counted from 0).
            ConfigError: the model is a language model, which tells no classes apart.
        """
        if self._objective != "classification":
            raise ConfigError("this is a language model, which tells no classes apart: use perplexity")
        parts = [self._probabilities(inputs) for inputs in self._encoded(rows)]
        shares = torch.cat(parts).numpy() if parts else np.empty((0, len(self.classes)))
        best = shares.argmax(axis=1)
        flat = pa.array(shares.reshape(-1))
        return pa.table(
            {
                "label": _as_column(self.classes).take(pa.array(best)),
                "probability": pa.array(shares[np.arange(len(best)), best]),
                "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(self.classes)),
            }
        )

    def perplexity(self, texts: Any) -> np.ndarray:
        """Return how surprised a language model is by each text: e to the mean loss of its tokens, n float64.

        Args:
            texts: As for `predict`.

        Raises:
            InputError: texts that the model cannot read (names the first, counted from 0).
            ConfigError: the model is a classifier.
        """
        if self._objective != "causal_lm":
            raise ConfigError("this is a classifier, to which texts are not more or less likely: use predict")
        objective, found = CausalLanguageModelling(), []
        with torch.no_grad():
            for inputs in self._encoded(texts):
                for row in range(len(inputs["input_ids"])):
                    one = Examples({name: values[row : row + 1] for name, values in inputs.items()})
                    loss, tokens = objective.loss(self.learner, one)
                    found.append(float(torch.exp(loss.double() / tokens.double())))
        return np.array(found)

    def __repr__(self) -> str:
        what = f"classes={self.classes!r}" if self._objective == "classification" else self._objective
        return f"TunedModel({type(self.learner).__name__}, {what}, checkpoint={str(self.checkpoint)!r})"

    @torch.no_grad()
    def _probabilities(self, inputs: Inputs) -> Tensor:
        """Return the probability of every class, n x C float64; outputs beyond the classes were never trained."""
        return self.learner(inputs)[:, : len(self.classes)].double().cpu().softmax(dim=1)

    def _encoded(self, rows: Any) -> Iterator[Inputs]:
        """Yield the model's inputs, a batch at a time."""
        column = _column(rows, self._column)
        device = next(self.learner.parameters()).device
        for start in range(0, len(column), self._batch_size):
            inputs = self.learner.encode(column[start : start + self._batch_size])
            yield {name: values.to(device) for name, values in inputs.items()}


def _settings_of(folder: Path) -> FineTuneSettings:
    path = folder / "config.yaml"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        runs = sorted(str(found.parent.relative_to(folder)) for found in folder.glob("*/seed-*/config.yaml"))
        hint = f"name one run of this sweep, as {folder / runs[0]}" if runs else "name the run.dir of a fine-tuning"
        raise InputError(f"{path} does not exist: {hint}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it") from error
    try:
        return from_yaml(text, FineTuneSettings)
    except ConfigError as error:
        raise InputError(f"{path} is not of a fine-tuning, or of another version ({error})") from error


def _of_own_trainer(folder: Path, settings: FineTuneSettings, after_round: int | None) -> ConfigError:
    """Return why a model that only its trainer knows is not loaded, and where its checkpoint is."""
    trainer = settings.trainer
    spec = TrainerSpec(trainer.kind, trainer.options)
    rounds = sorted(int(path.name) for path in folder.glob("rounds/[0-9]*"))
    left = {number: TrainerFolder(spec, RoundFolder(folder, number).path).checkpoint() for number in rounds}
    found = {number: path for number, path in left.items() if path is not None}
    last = after_round if after_round is not None else max(found, default=None)
    path = found.get(last) if last is not None else None
    where = f"load its checkpoint yourself: {path}" if path else "it left no checkpoint there yet"
    return ConfigError(f"the model of {folder} is known to its trainer alone, trainer.kind={trainer.kind}: {where}")


def _checkpoint(folder: Path, after_round: int | None) -> Path:
    found = {int(path.parent.name): path for path in folder.glob("rounds/[0-9]*/checkpoint.safetensors")}
    if after_round is None and found:
        return found[max(found)]
    if after_round is not None and after_round in found:
        return found[after_round]
    have = f"rounds {', '.join(map(str, sorted(found)))} have some" if found else "no round has trained yet"
    wanted = RoundFolder(folder, after_round or 1).checkpoint
    raise InputError(f"there are no weights at {wanted}: {have}; go on with the run, or name another after_round")


def _column(rows: Any, name: str) -> pa.Array:
    """Return what a caller hands over as the column that a model reads."""
    if isinstance(rows, pa.Array | pa.ChunkedArray):
        return _whole(rows)
    if isinstance(rows, str | bytes | os.PathLike):
        raise InputError(f"rows is one {type(rows).__name__}: hand over a list of them")
    if isinstance(rows, np.ndarray | Tensor):
        values = np.ascontiguousarray(rows)
        if values.dtype.kind in "OUST":
            return pa.array(values.tolist())
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), max(values[:1].size, 1))
    if isinstance(rows, Sequence):
        return pa.array([_content(value) for value in rows])
    table = pa.table(readable(rows, "rows"))
    find_column(table.schema, name, "data.raw_column of the run", "")
    return _whole(table.column(name))


def _as_column(classes: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(classes)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # numbers, and the text of others
        return pa.array([str(value) for value in classes])


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _content(value: Any) -> Any:
    """Return an image that is a path, or a text that names one, or of pillow as its bytes; other values as they are."""
    if isinstance(value, os.PathLike) or _names_image(value):
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise InputError(f"{os.fspath(value)!r} cannot be read ({error.strerror}): correct the path") from error
    if hasattr(value, "save") and hasattr(value, "getbands"):
        stream = io.BytesIO()
        value.save(stream, "png")
        return stream.getvalue()
    return value.tolist() if isinstance(value, np.ndarray | Tensor) else value


def _names_image(value: Any) -> bool:
    return isinstance(value, str) and is_image(value) and Path(value).exists()
