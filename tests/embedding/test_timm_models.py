"""Models of timm give what timm gives. Skipped where timm, or a torchvision that fits torch, is not installed."""

import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.embedding import timm_models
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.settings import EmbeddingModelSettings, EmbeddingSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.training.inputs import decode_pictures
from tests.training.tiny_models import pictures

timm: Any
try:
    timm = importlib.import_module("timm")
except (ImportError, RuntimeError):  # of torchvision, where it is of another build than torch
    timm = None
needs_timm = pytest.mark.skipif(timm is None, reason="needs timm, and a torchvision that fits torch")
NAME = "timm/test_resnet"


def opened(name: str, checkpoint: str | None = None, sample: pa.Array | None = None, **options: Any) -> Any:
    model = EmbeddingModelSettings(name, options, checkpoint=checkpoint)
    return open_encoder(model, EmbeddingSettings(precision="float32", batch_size=2), sample=sample)


@pytest.fixture
def model() -> Any:
    assert timm is not None
    torch.manual_seed(0)
    return timm.create_model("test_resnet", pretrained=False).eval()


@pytest.fixture
def checkpoint(model: Any, tmp_path: Path) -> str:
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


@needs_timm
def test_features_are_those_of_the_library(model: Any, checkpoint: str) -> None:
    encoder = opened(NAME, checkpoint)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        pixels = torch.stack([transform(picture) for picture in decode_pictures(pictures())])
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()
    found = encoder.embed_column(pictures())
    assert found.shape == (3, encoder.dim) == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).embed_column(pictures()), found)


@needs_timm
def test_a_folder_of_its_own_is_one(model: Any, checkpoint: str, tmp_path: Path) -> None:
    timm.models.save_for_hf(model, tmp_path / "saved", safe_serialization=True)
    assert timm_models.is_timm_folder(tmp_path / "saved")
    assert not timm_models.is_timm_folder(tmp_path)
    found = opened(str(tmp_path / "saved")).embed_column(pictures())
    assert np.array_equal(found, opened(NAME, checkpoint).embed_column(pictures()))


@needs_timm
def test_side_precision_and_weights_are_of_the_identity(checkpoint: str) -> None:
    first = opened(NAME, checkpoint)
    small = opened(NAME, checkpoint, side=32)
    assert first.identity() != small.identity()
    assert not np.allclose(first.embed_column(pictures()), small.embed_column(pictures()))
    model = EmbeddingModelSettings(NAME, checkpoint=checkpoint)
    half = open_encoder(model, EmbeddingSettings(precision="bfloat16", batch_size=2), sample=pictures())
    assert half.details()["precision"] == "bfloat16"
    assert half.identity() != first.identity()
    np.testing.assert_allclose(half.embed_column(pictures()), first.embed_column(pictures()), rtol=0.1, atol=0.1)


@needs_timm
def test_what_cannot_be_used_is_named(model: Any, checkpoint: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = model.state_dict()
    save_file(dict(list(weights.items())[3:]), tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=r"less\.safetensors' lacks 3 weights of the model, as "):
        opened(NAME, str(tmp_path / "less.safetensors"))
    with pytest.raises(InputError, match=r"model\.checkpoint='nosuch' cannot be read"):
        opened(NAME, "nosuch")
    with pytest.raises(InputError, match=r"timm/nosuch' cannot be had \(Unknown model"):
        opened("timm/nosuch")
    with pytest.raises(ConfigError, match=r"taken for a model of timm, which has no 'prompt'; use side"):
        opened(NAME, checkpoint, prompt="x")
    encoder = opened(NAME, checkpoint)
    with pytest.raises(InputError, match=r"has type string, but the model reads encoded images"):
        encoder.embed_column(pa.array(["x"]))
    with pytest.raises(InputError, match=r"^row 2 \(counting from 0\): cannot be read as an image"):
        encoder.embed_column(pa.array([*pictures().slice(0, 2).to_pylist(), b"no image"]))


def test_a_torchvision_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(timm_models, "load_extra", broken)
    with pytest.raises(
        ConfigError, match=r"model\.name='timm/x' needs timm, .*install torch and torchvision from the same"
    ):
        opened("timm/x")
