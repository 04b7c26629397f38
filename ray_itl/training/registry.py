"""Learners by name: what a configuration says about a model, and the model built from it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.extras import load_by_name
from ray_itl.training.checkpoint import load_checkpoint
from ray_itl.training.learner import Learner
from ray_itl.training.seeds import drawing_from

LEARNERS: dict[str, str] = {
    "mnist_cnn": "ray_itl.training.models.classifiers:MnistCnn",
    "mlp": "ray_itl.training.models.classifiers:Mlp",
    "causal_lm": "ray_itl.training.models.language_model:CausalLm",
    "sentence_encoder": "ray_itl.training.models.sentence_encoder:SentenceEncoder",
    "efficientnet_lite0": "ray_itl.training.models.efficientnet:EfficientNetLite0",
}
"""Registered name -> "module:factory". Modules are imported when a model of theirs is built."""


@dataclass(frozen=True)
class ModelSpec:
    """A model as plain data, which every process turns into the same model."""

    name: str
    """A key of LEARNERS, or "module:factory" for a callable that returns a Learner."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory; JSON values only."""

    def __post_init__(self) -> None:
        """Raise ConfigError for options that are not JSON."""
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model.options of {self.name!r} are not plain JSON values: {error}") from error

    def build(self, seed: int) -> Learner:
        """Return a new model on the CPU in evaluation mode, its initial weights a function of the seed alone.

        The global random state of torch is left as it was.

        Raises:
            ConfigError: an unknown name, a module that cannot be imported, options that the factory does not take,
                or something else than a Learner.
        """
        factory = load_by_name(self.name, LEARNERS, option="model.name")
        check_options(factory, self.name, self.options, option="model.options")
        with drawing_from(seed):
            learner = factory(**self.options)
        if not isinstance(learner, Learner):
            raise ConfigError(
                f"model.name={self.name!r} gave a {type(learner).__name__}, but a model must be a "
                "ray_itl.training.learner.Learner: subclass it and define encode, features and outputs"
            )
        return learner.eval()


def load(spec: ModelSpec, checkpoint: str | None, seed: int) -> Learner:
    """Build a model and, where a checkpoint is named, give it those weights.

    Raises:
        ConfigError: the model cannot be built.
        InputError: the checkpoint is missing, damaged, or of another model.
    """
    learner = spec.build(seed)
    if checkpoint is not None:
        load_checkpoint(learner, checkpoint)
    return learner


def check_options(factory: Callable[..., Any], name: str, options: Mapping[str, Any], option: str) -> None:
    """Raise ConfigError, with the options there are, if a factory cannot be called with these."""
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ConfigError(f"{option} do not fit {name!r} ({error}): it takes {signature}") from error
