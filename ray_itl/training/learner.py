"""What the rounds ask of a model: encode raw rows, give features, be trained, and be rebuilt anywhere from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pyarrow as pa
from torch import Tensor, nn

from ray_itl.errors import ConfigError

Inputs = dict[str, Tensor]
"""What a model reads: named tensors with one row an example (images, token ids and their mask, feature vectors)."""


class Learner(nn.Module, ABC):
    """A model that can be fine-tuned and whose features define the kernel of a selection.

    `encode` never depends on the weights, so encoded rows may be kept between rounds; everything after it does.
    """

    feature_dim: int
    """D, numbers in a feature vector."""

    @abstractmethod
    def encode(self, column: pa.Array) -> Inputs:
        """Turn n raw rows (text, image bytes, arrays of numbers) into inputs.

        Raises:
            InputError: a row that cannot be decoded (says which, counted from 0 within `column`, and the remedy).
        """

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Return what users should know of how rows of this type are read; nothing unless overridden."""
        del kind
        return []

    @abstractmethod
    def features(self, inputs: Inputs) -> Tensor:
        """Return last-layer features, n x D: what the output layer multiplies."""

    @abstractmethod
    def outputs(self, features: Tensor) -> Tensor:
        """Return the output layer's logits from features: n x D -> n x C (classes)."""

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits: n x C for a classifier, n x T x V for a causal language model."""
        return self.outputs(self.features(inputs))

    def reset_head(self, seed: int) -> None:
        """Draw the weights of the output layer anew, a function of the seed alone.

        Raises:
            ConfigError: unless overridden, because not every model has a head to draw anew.
        """
        raise ConfigError(f"{type(self).__name__} cannot draw its head anew (seed {seed}): set model.start=warm")


def num_rows(inputs: Inputs) -> int:
    """Return n, the number of examples."""
    return len(next(iter(inputs.values())))


def take(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    """Return some of the examples, by index or slice."""
    return {name: values[rows] for name, values in inputs.items()}
