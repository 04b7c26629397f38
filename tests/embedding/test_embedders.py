"""Embeddings are what their formulas say, whichever process computes them."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.embedding.embedder import Embedder, hallucinated_residuals, kronecker
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.learner import Learner
from ray_itl.training.registry import ModelSpec
from tests.embedding.embedding_helpers import CNN, MLP, embedder, raw_table


def column(num_rows: int = 20) -> pa.Array:
    return raw_table(num_rows).column("image").combine_chunks()


def embed(made: Embedder, values: pa.Array) -> np.ndarray:
    return made.embed(made.prepare(values))


@pytest.mark.parametrize("spec", [CNN, MLP], ids=lambda spec: spec.name)
def test_features_are_the_models(spec: ModelSpec) -> None:
    made = embedder(spec, seed=3)
    learner = spec.build(3)
    with torch.no_grad():
        expected = learner.features(learner.encode(column())).numpy()
    found = embed(made, column())
    assert (made.dim, found.dtype) == (12, np.float32)
    assert np.array_equal(found, expected)


def test_a_process_without_gpu_embeds_on_what_it_has_or_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = embed(embedder(MLP, seed=3), column())
    anywhere = Embedder(MLP, None, 3, device="auto")  # "auto" travels, and means what each process has
    assert np.array_equal(embed(pickle.loads(pickle.dumps(anywhere)), column()), expected)
    with pytest.raises(ConfigError, match=r"cluster\.gpus_per_worker > 0.* has none"):
        embed(Embedder(MLP, None, 3, device="cuda"), column())


@pytest.mark.parametrize("spec", [CNN, MLP], ids=lambda spec: spec.name)
def test_gradients_are_those_that_torch_computes(spec: ModelSpec) -> None:
    """By definition: the loss of the likeliest class, differentiated with respect to the last layer's weights."""
    learner = spec.build(1)
    weight = dict(learner.named_parameters())["head.weight"]
    inputs = learner.encode(column())
    expected = []
    for row in range(20):
        logits = learner({name: values[row : row + 1] for name, values in inputs.items()})
        loss = torch.nn.functional.cross_entropy(logits, logits.argmax(dim=1))
        expected.append(torch.autograd.grad(loss, weight)[0].flatten().numpy())
    made = embedder(spec, seed=1, kind="gradient")
    assert made.dim == 4 * 12
    np.testing.assert_allclose(embed(made, column()), np.stack(expected), rtol=1e-4, atol=1e-7)


def test_residuals_sum_to_zero_and_vanish_where_the_model_is_sure() -> None:
    residuals = hallucinated_residuals(torch.tensor([[0.0, 200.0], [1.0, 0.0]]))
    assert residuals[0].abs().max() == 0
    assert residuals[1, 0] == pytest.approx(-residuals[1, 1].item())
    assert residuals[1, 0] < 0


def test_kronecker_order() -> None:
    a, h = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, 10.0, 100.0]])
    assert kronecker(a, h).tolist() == [[2, 20, 200, 3, 30, 300]]


def test_unit_norm() -> None:
    plain, unit = (embed(embedder(kind="gradient", unit_norm=on), column()) for on in (False, True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(plain, axis=1, keepdims=True), plain, rtol=1e-4, atol=1e-8)


def test_a_row_depends_on_its_batch_by_rounding_alone() -> None:
    made = embedder(kind="gradient")
    whole = embed(made, column(64))
    assert np.array_equal(whole, embed(made, column(64)))
    for size in (1, 7, 32):
        parts = [embed(made, column(64).slice(first, size)) for first in range(0, 64, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-6)


def test_a_row_in_its_place_does_not_depend_on_the_other_rows_at_all() -> None:
    made, table = embedder(), raw_table(64, seed=1).column("image").combine_chunks()
    mixed = pa.concat_arrays([table.slice(0, 5), column(64).slice(5, 1), table.slice(6)])
    assert np.array_equal(embed(made, mixed)[5], embed(made, column(64))[5])


def test_pickles_small_and_gives_the_same() -> None:
    made = embedder(MLP, seed=5, kind="gradient", projection_dim=7)
    packed = pickle.dumps(made)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert (again.dim, again.identity()) == (made.dim, made.identity())
    assert np.array_equal(embed(again, column()), embed(made, column()))


def test_weights_come_from_the_checkpoint_and_must_stay_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(MLP.build(7), path)
    made = embedder(MLP, str(path), seed=0)
    assert np.array_equal(embed(made, column()), embed(embedder(MLP, seed=7), column()))
    packed = pickle.dumps(made)
    save_checkpoint(MLP.build(8), path)
    with pytest.raises(InputError, match="other weights here"):
        embed(pickle.loads(packed), column())
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        pickle.loads(packed).prepare(column())


def test_identity_tells_what_decides_an_embedding(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(CNN.build(0), path)
    first = embedder().identity()
    assert embedder(checkpoint=str(path), seed=9).identity() == first
    for other in (embedder(seed=1), embedder(unit_norm=True), embedder(batch_size=8), embedder(MLP)):
        assert other.identity() != first


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "logits"}, "embedding.kind='logits'.*features, gradient"),
        ({"unit_norm": 1}, "embedding.unit_norm"),
        ({"projection_dim": 8}, "embedding.projection_dim=8.*kind=gradient"),
        ({"kind": "gradient", "projection_dim": 0}, "embedding.projection_dim=0"),
        ({"projection": "fourier"}, "embedding.projection="),
        ({"projection_seed": -1}, "embedding.projection_seed"),
        ({"batch_size": 0}, "embedding.batch_size"),
    ],
)
def test_settings_that_cannot_be(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        EmbeddingSettings(**options)


def test_exact_gradients_of_many_classes_ask_for_a_projection() -> None:
    many = ModelSpec("mlp", {"input_dim": 64, "classes": 3000, "hidden": [500]})
    with pytest.raises(ConfigError, match=r"1,500,000 numbers.*projection_dim"):
        embedder(many, kind="gradient")
    assert embedder(many, kind="gradient", projection_dim=32).dim == 32


class Headless(Learner):
    """A model without classes."""

    feature_dim = 2

    def encode(self, column):
        return {"x": torch.zeros(len(column), 2)}

    def features(self, inputs):
        return inputs["x"]

    def outputs(self, features):
        raise NotImplementedError("no output layer")


def test_gradients_need_a_classifier() -> None:
    spec = ModelSpec(f"{__name__}:Headless")
    assert embedder(spec).dim == 2
    with pytest.raises(ConfigError, match=r"needs a classifier.*no output layer"):
        embedder(spec, kind="gradient")
