"""Encoders of timm: any of its image models by name, or a folder that timm wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.embedding.torch_encoder import Batch, TorchEncoder
from ray_itl.errors import ConfigError, InputError
from ray_itl.extras import load_extra
from ray_itl.images import encode_png
from ray_itl.options.checks import is_whole, require
from ray_itl.training.inputs import decode_pictures
from ray_itl.training.models.pretrained import without_bars

PREFIX = "timm/"
"""Begins the names of its models, as on the Hugging Face hub."""
_SAMPLES, _SIDE = 8, 64


@dataclass(frozen=True)
class TimmOptions:
    """Further options of a model of timm: model.options."""

    side: int | None = None
    """Images are resized to side x side. None: what the model was trained with."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        allowed = "give a whole number of at least 1"
        require(self.side is None or is_whole(self.side, 1), "model.options.side", self.side, allowed)


def is_timm_folder(path: Path) -> bool:
    """Whether a folder holds a model of timm, as its config.json says."""
    try:
        told = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and "architecture" in told and "model_type" not in told


class TimmEncoder(TorchEncoder):
    """What the classifier of an image model reads, of images prepared as the model's configuration says."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        how: EmbeddingSettings,
        device: str = "cpu",
        sample: pa.Array | None = None,
        checkpoint: str | None = None,
    ) -> None:
        """See `TorchEncoder`.

        Args:
            name: "timm/" and a name of timm's, or a folder that it wrote.
            options: Those of `TimmOptions`.
            how: See there.
            device: See there.
            sample: See there.
            checkpoint: A file of weights: safetensors, or of torch, of which nothing but tensors is read. None: those
                that the name stands for.
        """
        self.options, self.checkpoint = TimmOptions(**options), checkpoint
        self.window = how.batch_size
        super().__init__(name, how, device, sample)

    def read(self) -> nn.Module:
        """Return the model without its classifier."""
        timm = _timm(self.name)
        folder = Path(self.name)
        source = f"local-dir:{folder}" if folder.is_dir() else self.name.removeprefix(PREFIX)
        try:
            with without_bars():
                model = timm.create_model(source, pretrained=self.checkpoint is None, num_classes=0)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"model.name={self.name!r} cannot be had ({reason}): name a model of timm while the Hugging Face hub "
                "can be reached (or it is in HF_HOME), a folder that timm wrote, or its weights as model.checkpoint"
            ) from error
        if self.checkpoint is not None:
            _load_weights(timm, model, self.checkpoint)
        side = {} if self.options.side is None else {"input_size": (3, self.options.side, self.options.side)}
        self._config = {**timm.data.resolve_model_data_config(model), **side}
        self._transform = timm.data.create_transform(**self._config, is_training=False)
        return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def lower(self, model: nn.Module, dtype: torch.dtype) -> nn.Module:
        """Return the model in `dtype`."""
        model.register_forward_pre_hook(lambda _, given: (given[0].to(dtype), *given[1:]))
        return model.to(dtype)

    def sample_column(self) -> pa.Array:
        """Return images of smooth noise."""
        drawn = np.random.default_rng(0).integers(0, 256, (_SAMPLES, 4, 4, 3), dtype=np.uint8)
        large = drawn.repeat(_SIDE // 4, axis=1).repeat(_SIDE // 4, axis=2)
        return pa.array([encode_png(picture) for picture in large], pa.binary())

    def prepare(self, column: pa.Array) -> list[Batch]:
        """Return one batch of pixels."""
        self.model()
        pictures = decode_pictures(column)
        with ThreadPoolExecutor(torch.get_num_threads(), "pixels") as threads:
            pixels = list(threads.map(self._transform, pictures))
        return [Batch(np.arange(len(pixels)), {"pixels": torch.stack(pixels)})] if pixels else []

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return the features."""
        return model(inputs["pixels"].contiguous(memory_format=torch.channels_last)).float().flatten(1)

    def identity(self) -> dict[str, str]:
        """Return what decides an embedding."""
        config = json.dumps(self._config, sort_keys=True, default=str)
        return {"encoder": "timm", **super().identity(), "configuration of the model": config}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_transform": None}


def _timm(name: str) -> Any:
    """Return the library, with what it is used by."""
    try:
        timm: Any = load_extra("timm", f"model.name={name!r}", "timm")
        load_extra("timm.data", f"model.name={name!r}", "timm")
    except RuntimeError as error:
        raise ConfigError(
            f"model.name={name!r} needs timm, which needs torchvision, and the one that is installed does not fit this "
            f"torch ({torch.__version__}): install torch and torchvision from the same index, as "
            "https://pytorch.org/get-started/locally says"
        ) from error
    return timm


def _load_weights(timm: Any, model: nn.Module, path: str) -> None:
    """Give a model its weights; those of a classifier are left out."""
    try:
        weights = timm.models.load_state_dict(path)
        missing, _ = model.load_state_dict(weights, strict=False)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"model.checkpoint={path!r} cannot be read ({reason}): give weights of the model") from error
    if missing:
        raise InputError(
            f"model.checkpoint={path!r} lacks {len(missing)} weights of the model, as {missing[0]}: give weights of "
            "the same model"
        )
