"""Embeddings that are gradients of adapters: sketches of the right vectors, wherever and in whatever batches."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from ray_itl.embedding.embedder import Embedder
from ray_itl.embedding.job import embed_pool
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbeddingSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.errors import ConfigError, InputError
from ray_itl.training.adapter_gradients import adapter_layers
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.registry import ModelSpec, load
from tests.training.test_adapter_gradients import gradients
from tests.training.test_language_model import TEXTS, write_tiny_llama

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers
ROWS = pa.array([*TEXTS, "the mat", "a cat and a dog and a cat", "on the mat the cat", "dog"])
WIDE = 4096
"""More than the adapters below have numbers, so that nothing is lost."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


def spec(folder: Path, **options: Any) -> ModelSpec:
    modules = ["q_proj", "v_proj", "down_proj"]
    return ModelSpec("causal_lm", {"path": str(folder), "lora_rank": 2, "lora_modules": modules, **options})


def checkpoint(folder: Path, path: Path, seed: int, trainable_only: bool = True) -> str:
    """Adapters as of some training."""
    learner = spec(folder).build(0)
    with torch.no_grad():
        for layer in adapter_layers(learner).values():
            layer.weight.normal_(std=0.2, generator=torch.Generator().manual_seed(seed))
    save_checkpoint(learner, path, trainable_only)
    return str(path)


def exact(folder: Path, path: str | None, column: pa.Array = ROWS) -> np.ndarray:
    """Whole gradients, n x d."""
    learner = load(spec(folder), path, 0)
    found = gradients(learner, learner.encode(column))
    return torch.cat([rows.flatten(1) for rows in found.values()], dim=1).numpy()


def embedder(folder: Path, path: str | None = None, moments: Any = (), **how: Any) -> Embedder:
    settings = EmbeddingSettings("lora_gradient", **{"batch_size": 16, **how})
    return Embedder(spec(folder), path, 0, settings, moments=moments)


def gram(rows: np.ndarray) -> np.ndarray:
    return rows @ rows.T


def test_inner_products_are_those_of_the_gradients(folder: Path, tmp_path: Path) -> None:
    path = checkpoint(folder, tmp_path / "a", 1)
    truth = gram(exact(folder, path))
    found = embedder(folder, path, projection_dim=WIDE).embed_column(ROWS)
    assert (found.dtype, found.shape) == (np.float32, (len(ROWS), WIDE))
    np.testing.assert_allclose(gram(found), truth, rtol=1e-4, atol=1e-6)
    each = [gram(embedder(folder, path, projection_dim=64, projection_seed=s).embed_column(ROWS)) for s in range(40)]
    spread = np.std(each, axis=0) / 40**0.5
    assert (np.abs(np.mean(each, axis=0) - truth) < 5 * spread + 1e-6).all()
    norms = np.diag(truth)
    assert (np.var(each, axis=0) < 3 * (np.outer(norms, norms) + truth**2) / 64).all()


def test_without_a_checkpoint_half_of_the_matrices_tell_nothing_and_the_rest_tells_rows_apart(folder: Path) -> None:
    made = embedder(folder)
    assert made.dim == 8192
    found = made.embed_column(ROWS)
    truth = exact(folder, None)
    assert 0.3 < (truth == 0).mean() < 0.7
    np.testing.assert_allclose(gram(found), gram(truth), rtol=1e-4, atol=1e-6)
    assert len(np.unique(found, axis=0)) == len(ROWS)


def test_batches_and_padding_change_last_bits_alone(folder: Path, tmp_path: Path) -> None:
    path = checkpoint(folder, tmp_path / "a", 1)
    whole = embedder(folder, path).embed_column(ROWS)
    assert np.array_equal(embedder(folder, path).embed_column(ROWS), whole)
    for how in ({"batch_size": 1}, {"batch_size": 3}, {"batch_tokens": 7}):
        found = embedder(folder, path, **how).embed_column(ROWS)
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-6)


def test_it_travels_without_the_model(folder: Path, tmp_path: Path) -> None:
    moments = [{"path": checkpoint(folder, tmp_path / str(seed), seed), "learning_rate": seed} for seed in (1, 2)]
    made = embedder(folder, moments=moments, projection_dim=32)
    again = pickle.loads(packed := pickle.dumps(made))
    assert len(packed) < 3000
    assert again.identity() == made.identity()
    assert np.array_equal(again.embed_column(ROWS), made.embed_column(ROWS))
    checkpoint(folder, tmp_path / "2", 3)
    with pytest.raises(InputError, match="other weights here"):
        pickle.loads(packed).embed_column(ROWS)


@pytest.mark.parametrize("unit_norm", [False, True])
def test_of_several_moments_inner_products_are_the_mean_by_learning_rates(
    folder: Path, tmp_path: Path, unit_norm: bool
) -> None:
    paths, rates = [checkpoint(folder, tmp_path / str(seed), seed) for seed in (1, 2, 3)], np.array([3e-5, 2e-5, 1e-5])
    moments = [{"path": path, "learning_rate": rate} for path, rate in zip(paths, rates.tolist(), strict=True)]
    made = embedder(folder, moments=moments, projection_dim=3 * WIDE, unit_norm=unit_norm)
    each = [exact(folder, path) for path in paths]
    if unit_norm:
        each = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in each]
    truth = sum(rate * gram(rows) for rate, rows in zip(rates / rates.sum(), each, strict=True))
    np.testing.assert_allclose(gram(made.embed_column(ROWS)), truth, rtol=1e-4, atol=1e-6)
    other = embedder(folder, moments=moments[::-1], projection_dim=3 * WIDE)
    assert other.identity() != made.identity()


def second_moments(folder: Path, path: Path, seed: int) -> tuple[str, np.ndarray]:
    """A file of them, and what numbers of a gradient are multiplied by: in the order of `exact`."""
    layers, draw = adapter_layers(spec(folder).build(0)), torch.Generator().manual_seed(seed)
    moments = {name: torch.rand(layer.weight.shape, generator=draw) ** 8 for name, layer in layers.items()}
    save_file({f"{name}.weight": values for name, values in moments.items()}, path)
    order = gradients(spec(folder).build(0), spec(folder).build(0).encode(ROWS))
    whole = np.concatenate([moments[name].flatten().numpy() for name in order]).astype(np.float64)
    return str(path), (np.sqrt(whole) + 1e-8) ** -0.5


@pytest.mark.parametrize("unit_norm", [False, True])
def test_with_second_moments_inner_products_are_those_of_steps_of_adam(
    folder: Path, tmp_path: Path, unit_norm: bool
) -> None:
    one, two = (checkpoint(folder, tmp_path / str(seed), seed) for seed in (1, 2))
    (own, own_scales), (other, other_scales) = (second_moments(folder, tmp_path / f"v{k}", k) for k in (1, 2))
    assert own_scales.max() > 10 * own_scales.min()
    moments = [{"path": one, "second_moments": own}, {"path": two, "second_moments": other}]
    found = embedder(folder, moments=moments, projection_dim=2 * WIDE, unit_norm=unit_norm).embed_column(ROWS)
    each = [exact(folder, one) * own_scales, exact(folder, two) * other_scales]
    if unit_norm:
        each = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in each]
    np.testing.assert_allclose(gram(found), sum(gram(rows) for rows in each) / 2, rtol=1e-3, atol=1e-5)


def test_second_moments_are_part_of_the_identity_and_must_fit(folder: Path, tmp_path: Path) -> None:
    path = checkpoint(folder, tmp_path / "a", 1)
    plain, (own, _), (other, _) = {"path": path}, *(second_moments(folder, tmp_path / f"v{k}", k) for k in (1, 2))
    made = [embedder(folder, moments=[{**plain, **more}]) for more in ({}, {"second_moments": own})]
    made.append(embedder(folder, moments=[{**plain, "second_moments": other}]))
    assert len({each.weights_digest for each in made}) == 3
    with pytest.raises(ConfigError, match="either to all or to none of them a file of second_moments"):
        EmbeddingModelSettings("causal_lm", checkpoints=[plain, {**plain, "second_moments": own}])
    values = load_file(own)
    name = next(iter(values))
    save_file({**values, name: -values[name]}, tmp_path / "negative")
    save_file({key: value for key, value in values.items() if key != name}, tmp_path / "few")
    for file, said in (("negative", "no means of squares"), ("few", "has none for"), ("nowhere", "does not exist")):
        with pytest.raises(InputError, match=said):
            embedder(folder, moments=[{**plain, "second_moments": str(tmp_path / file)}])


def test_identity_tells_what_decides(folder: Path, tmp_path: Path) -> None:
    path = checkpoint(folder, tmp_path / "a", 1)
    first = embedder(folder, path).identity()
    assert embedder(folder, path).identity() == first
    for other in ({"projection_seed": 1}, {"projection_dim": 9}, {"unit_norm": True}, {"batch_tokens": 99}):
        assert embedder(folder, path, **other).identity() != first
    assert embedder(folder).identity() != first
    same, faster = ([{"path": path, "learning_rate": rate}] for rate in (1.0, 2.0))
    assert embedder(folder, moments=same).identity() != embedder(folder, moments=faster).identity()


def test_answers_alone_are_learnt_and_a_row_without_one_is_named(folder: Path) -> None:
    made = embedder(folder, projection_dim=WIDE, batch_size=2)
    turns = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "on the mat"}]
    other = [{"role": "user", "content": "a dog"}, *turns[1:]]
    found = made.embed_column(pa.array([turns, other]))
    learner = spec(folder).build(0)
    inputs = learner.encode(pa.array([turns, other]))
    rows = torch.cat([part.flatten(1) for part in gradients(learner, inputs).values()], dim=1).numpy()
    np.testing.assert_allclose(gram(found), gram(rows), rtol=1e-4, atol=1e-6)
    endless = [{"role": "user", "content": "the cat " * 300}, *turns[1:]]
    with pytest.raises(InputError, match=r"row 2 .*no answer begins within"):
        made.embed_column(pa.array([turns, other, endless]))


def test_what_cannot_be(folder: Path, tmp_path: Path) -> None:
    path = checkpoint(folder, tmp_path / "a", 1)
    with pytest.raises(ConfigError, match=r"embedding\.kind=lora_gradient needs .*model\.options\.lora_rank"):
        Embedder(ModelSpec("causal_lm", {"path": str(folder)}), settings=EmbeddingSettings("lora_gradient"))
    mlp = EmbeddingModelSettings("mlp", {"input_dim": 4, "classes": 2})
    with pytest.raises(ConfigError, match=r"needs a causal language model with adapters"):
        open_encoder(mlp, EmbeddingSettings("lora_gradient"))
    model = EmbeddingModelSettings("causal_lm", spec(folder).options, checkpoints=[{"path": path}])
    with pytest.raises(ConfigError, match=r"model\.checkpoints=.*set embedding\.kind=lora_gradient"):
        open_encoder(model)
    both = EmbeddingModelSettings("causal_lm", spec(folder).options, path, checkpoints=[{"path": path}])
    with pytest.raises(ConfigError, match=r"model\.checkpoints=.*leave out model\.checkpoint with it"):
        open_encoder(both, EmbeddingSettings("lora_gradient"))
    with pytest.raises(ConfigError, match=r"embedding\.projection='sign'"):
        EmbeddingSettings("lora_gradient", projection="sign")
    for wrong in ([path], [{"learning_rate": 1.0}], [{"path": path, "learning_rate": 0}], [{"path": path, "lr": 1}]):
        with pytest.raises(ConfigError, match=r"model\.checkpoints=.*give a list as"):
            EmbeddingModelSettings("causal_lm", checkpoints=wrong)


def test_checkpoints_of_other_trainings_are_told_apart(folder: Path, tmp_path: Path) -> None:
    one = checkpoint(folder, tmp_path / "a", 1, trainable_only=False)
    learner = load(spec(folder), one, 0)
    with torch.no_grad():
        next(value for name, value in learner.named_parameters() if "lora_" not in name).mul_(2)
    save_checkpoint(learner, tmp_path / "b")
    with pytest.raises(InputError, match=r"model\.checkpoints: .* differs from .* in more than its adapters"):
        embedder(folder, moments=[{"path": one}, {"path": str(tmp_path / "b")}])


def test_a_pool_of_texts_becomes_files_of_gradients(folder: Path, tmp_path: Path) -> None:
    path = checkpoint(folder, tmp_path / "a", 1)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS.to_pylist()))
    settings = EmbedJobSettings(
        pool=RawPoolSettings(str(tmp_path / "texts.jsonl")),
        model=EmbeddingModelSettings("causal_lm", spec(folder).options, checkpoints=[{"path": path}]),
        embedding=EmbeddingSettings("lora_gradient", unit_norm=True, projection_dim=WIDE),
        cluster=WorkerSettings(num_workers=0),
        run=EmbedRunSettings(str(tmp_path / "run"), log="quiet"),
    )
    embed_pool(settings)
    found = np.array(pq.read_table(tmp_path / "run" / "embeddings").column("embedding").to_pylist())
    rows = exact(folder, path)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(gram(found), gram(rows), rtol=1e-3, atol=1e-5)
