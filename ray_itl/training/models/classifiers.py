"""Small classifiers that train in seconds on a CPU: a convolutional network on pixels and a perceptron on vectors.

Neither has batch normalisation or dropout, so a training step is the same function of its batch for any number of
workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
import torch
from torch import Tensor, nn

from ray_itl.errors import ConfigError
from ray_itl.training.inputs import decode_images, decode_numbers
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.seeds import drawing_from


class MnistCnn(Learner):
    """Three convolutions (3 x 3; the first two followed by 2 x 2 max pooling) and two fully connected layers.

    The features are the activations (>= 0, after ReLU) of the first fully connected layer, as in the MNIST experiment
    of Huebotter et al. (2024).
    """

    def __init__(
        self,
        side: int = 28,
        channels: int = 1,
        classes: int = 10,
        widths: Sequence[int] = (32, 32, 64),
        features: int = 256,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        """Make the network, drawing its weights from torch's global generator.

        Args:
            side: Height and width of an image, at least 4.
            channels: 1 for grey, 3 for RGB.
            classes: C.
            widths: Channels after each of the three convolutions.
            features: D.
            mean: Subtracted from the pixels, one number or one a channel.
            std: The pixels are then divided by it.
        """
        super().__init__()
        _require(side >= 4 and channels in (1, 3), f"side={side}, channels={channels}", "side >= 4; channels 1 or 3")
        _require(len(widths) == 3 and min(*widths, features, classes) >= 1, f"widths={widths}", "three, all sizes >= 1")
        _require(len(mean) in (1, channels) and len(std) in (1, channels), "mean, std", "one number or one a channel")
        _require(min(std) > 0, f"std={std}", "positive numbers")
        self.side, self.channels, self.mean, self.std = side, channels, tuple(mean), tuple(std)
        self.feature_dim = features
        first, second, third = widths
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(second, third, 3, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(third * (side // 4) ** 2, features), nn.ReLU()),
        )
        # Three times as fast on CPUs.
        self.body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.head = nn.Linear(features, classes)

    def encode(self, column: pa.Array) -> Inputs:
        """Return {"pixels": n x channels x side x side}; see `decode_images`."""
        return {"pixels": decode_images(column, self.side, self.channels, self.mean, self.std)}

    def features(self, inputs: Inputs) -> Tensor:
        """Return the activations of the last hidden layer, n x D."""
        return self.body(inputs["pixels"])

    def outputs(self, features: Tensor) -> Tensor:
        """Return logits, n x C."""
        return self.head(features)

    def reset_head(self, seed: int) -> None:
        """Draw the output layer anew."""
        draw_anew(self.head, seed)


class Mlp(Learner):
    """Fully connected layers with ReLU between, on vectors: pixels, or features that a frozen network gave.

    The features are the activations of the last hidden layer; without hidden layers they are the vectors themselves,
    and the model is logistic regression.
    """

    def __init__(self, input_dim: int, classes: int, hidden: Sequence[int] = ()) -> None:
        """Make the network, drawing its weights from torch's global generator.

        Args:
            input_dim: Numbers in a vector.
            classes: C.
            hidden: Sizes of the hidden layers, from input to output.
        """
        super().__init__()
        sizes = [input_dim, *hidden]
        _require(min(*sizes, classes) >= 1, f"input_dim={input_dim}, hidden={hidden}, classes={classes}", "sizes >= 1")
        self.input_dim, self.feature_dim = input_dim, sizes[-1]
        layers = [nn.Sequential(nn.Linear(before, after), nn.ReLU()) for before, after in pairwise(sizes)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], classes)

    def encode(self, column: pa.Array) -> Inputs:
        """Return {"vectors": n x input_dim}; see `decode_numbers`."""
        return {"vectors": decode_numbers(column, self.input_dim)}

    def features(self, inputs: Inputs) -> Tensor:
        """Return the activations of the last hidden layer, n x D."""
        return self.body(inputs["vectors"])

    def outputs(self, features: Tensor) -> Tensor:
        """Return logits, n x C."""
        return self.head(features)

    def reset_head(self, seed: int) -> None:
        """Draw the output layer anew."""
        draw_anew(self.head, seed)


def draw_anew(layer: nn.Linear, seed: int) -> None:
    """Give a layer new initial weights, a function of the seed alone; torch's global random state stays."""
    device = layer.weight.device
    layer.cpu()
    with drawing_from(seed):
        layer.reset_parameters()
    layer.to(device)


def _require(condition: bool, given: str, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"model.options cannot be used ({given}): {allowed}")
