"""EfficientNet-Lite0 as a frozen feature extractor: images in, 1280 numbers each out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_itl.errors import InputError

FEATURE_DIM = 1280
_STAGES = (  # kernel, stride, expansion, channels out, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM_CHANNELS = 32


class _Convolution(nn.Module):
    """Convolution, batch normalisation, and ReLU6 where `active`; padded as TensorFlow does for even sizes."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        before = (kernel - stride) // 2
        self.padding = (before, kernel - stride - before) * 2
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out, eps=1e-3)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(functional.pad(x, self.padding)))
        return functional.relu6(x) if self.active else x


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow; added to its input where shapes allow."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = c_in * expansion
        layers = [_Convolution(c_in, wide, 1)] if expansion > 1 else []
        layers.append(_Convolution(wide, wide, kernel, stride, groups=wide))
        layers.append(_Convolution(wide, c_out, 1, active=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The convolutional part of EfficientNet-Lite0 (Tan and Le, arXiv:1905.11946, without squeeze-and-excitation).

    Takes images as n x 3 x S x S floats from 0 to 255 and returns n x 1280 non-negative features: the last feature
    map averaged over space. S must be a multiple of 32 (the padding is that of even sizes).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Convolution(3, _STEM_CHANNELS, 3, 2)]
        channels = _STEM_CHANNELS
        for kernel, stride, expansion, c_out, blocks in _STAGES:
            for block in range(blocks):
                layers.append(_Block(channels, c_out, kernel, stride if block == 0 else 1, expansion))
                channels = c_out
        layers.append(_Convolution(channels, FEATURE_DIM, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, n x 3 x S x S -> n x 1280."""
        return self.layers((images - 127) / 128).mean((2, 3))


def load_efficientnet_lite0(path: Path) -> EfficientNetLite0:
    """Return the network in evaluation mode with the ImageNet weights of a PyTorch checkpoint.

    The checkpoint names its tensors in its own way but lists them in the order in which the network applies them, so
    they are matched by order, and every shape is checked.

    Raises:
        InputError: the file holds something else.
    """
    network = EfficientNetLite0()
    own = network.state_dict()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in stored.items() if not name.startswith("_fc.")]
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in own.values()]:
        raise InputError(f"{path} does not hold the weights of EfficientNet-Lite0; remove it to have it fetched again")
    network.load_state_dict(dict(zip(own, tensors, strict=True)))
    return network.eval().requires_grad_(False)
