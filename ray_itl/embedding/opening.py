"""The encoder that a name stands for: a model that comes along, of a library, or of the user's own."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_itl.embedding.embedder import Embedder
from ray_itl.embedding.encoder import Encoder
from ray_itl.embedding.functions import FunctionEncoder, make_function
from ray_itl.embedding.sentence_models import SentenceModelEncoder, SentenceOptions
from ray_itl.embedding.settings import EmbeddingModelSettings, EmbeddingSettings
from ray_itl.embedding.timm_models import PREFIX, TimmEncoder, TimmOptions, is_timm_folder
from ray_itl.errors import ConfigError
from ray_itl.options.checks import require
from ray_itl.training.learner import Learner
from ray_itl.training.registry import LEARNERS, ModelSpec
from ray_itl.training.seeds import drawing_from


def open_encoder(
    model: EmbeddingModelSettings | str,
    how: EmbeddingSettings | None = None,
    device: str = "cpu",
    sample: pa.Array | None = None,
) -> Encoder:
    """Return the encoder of some settings, or of a name with no other options.

    Args:
        model: What embeds.
        how: Batches, precision, norm; gradients, of models that come along.
        device: Where it runs in the process that embeds: "cpu", "cuda" or "auto".
        sample: Some raw rows of those to embed, on which functions and precisions are tried; None: there are none.

    Raises:
        ConfigError: options that cannot be used, or a factory or function that fails.
        InputError: a model that cannot be had, a checkpoint that is missing, damaged, or of another model.
    """
    model = EmbeddingModelSettings(model) if isinstance(model, str) else model
    how = how or EmbeddingSettings()
    name, options = model.name, model.options
    _check_moments(model, how)
    if name in LEARNERS:
        return _of_learner(model, how, device)
    if _is_factory(name):
        return _of_factory(model, how, device, sample)
    allowed = f"model.name={name!r} has no classifier and no adapters; use features"
    require(how.kind == "features", "embedding.kind", how.kind, allowed)
    if name.startswith(PREFIX) or is_timm_folder(Path(name)):
        _check_options(name, options, TimmOptions, "timm")
        return TimmEncoder(name, options, how, device, sample, model.checkpoint)
    _check_options(name, options, SentenceOptions, "sentence-transformers")
    _refuse_checkpoint(model, "name a folder as model.name")
    return SentenceModelEncoder(name, options, how, device, sample)


def _of_learner(model: EmbeddingModelSettings, how: EmbeddingSettings, device: str) -> Embedder:
    spec = ModelSpec(model.name, model.options)
    return Embedder(spec, model.checkpoint, model.seed, how, device, model.checkpoints)


def _check_moments(model: EmbeddingModelSettings, how: EmbeddingSettings) -> None:
    given = [each["path"] for each in model.checkpoints]
    is_theirs = how.kind == "lora_gradient" or not given
    require(is_theirs, "model.checkpoints", given, "set embedding.kind=lora_gradient with it, or give model.checkpoint")
    require(not given or model.checkpoint is None, "model.checkpoints", given, "leave out model.checkpoint with it")


def _is_factory(name: str) -> bool:
    return ":" in name and not Path(name).exists()


def _of_factory(model: EmbeddingModelSettings, how: EmbeddingSettings, device: str, sample: Any) -> Encoder:
    with drawing_from(model.seed):
        made = make_function(model.name, model.options)
    if isinstance(made, Learner):
        return _of_learner(model, how, device)
    if isinstance(made, Encoder):
        return made
    if not callable(made):
        raise ConfigError(
            f"model.name={model.name!r} gave a {type(made).__name__}, but it must give a function from a list of "
            "values to an array, a ray_itl.training.learner.Learner, or a ray_itl.embedding.encoder.Encoder"
        )
    require(
        how.kind == "features", "embedding.kind", how.kind, f"model.name={model.name!r} is a function; use features"
    )
    _refuse_checkpoint(model, "let the function read its own weights")
    return FunctionEncoder(model.name, model.options, how, made, sample)


def _check_options(name: str, options: dict[str, Any], allowed: type, library: str) -> None:
    """Raise ConfigError for an option that models of a library do not have."""
    names = [each.name for each in fields(allowed)]
    if unknown := [option for option in options if option not in names]:
        raise ConfigError(
            f"model.options={options!r} cannot be used: model.name={name!r} is taken for a model of {library}, which "
            f"has no {unknown[0]!r}; use {', '.join(names)}, or a model that comes along: {', '.join(sorted(LEARNERS))}"
        )


def _refuse_checkpoint(model: EmbeddingModelSettings, remedy: str) -> None:
    allowed = f"model.name={model.name!r} takes none; {remedy}"
    require(model.checkpoint is None, "model.checkpoint", model.checkpoint, allowed)
