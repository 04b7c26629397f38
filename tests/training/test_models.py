"""Models by name: what they compute, how they are built, and what a wrong specification is told."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.examples import Examples, read_examples, write_examples
from ray_itl.training.learner import Learner, take
from ray_itl.training.registry import ModelSpec, load
from tests.training.worker_helpers import CNN, MLP, digits, vectors

HERE = "tests.training.worker_helpers"
LINEAR = ModelSpec("mlp", {"input_dim": 64, "classes": 3})
PAPER = ModelSpec("mnist_cnn")


def state(learner):
    return torch.cat([parameter.detach().reshape(-1) for parameter in learner.parameters()])


@pytest.mark.parametrize(("spec", "dim", "classes"), [(MLP, 32, 10), (CNN, 32, 10), (LINEAR, 64, 3)])
def test_features_times_the_output_layer_are_the_logits(spec, dim, classes):
    learner = spec.build(0)
    inputs = take(digits("mnist_cnn" if spec is CNN else "mlp").inputs, slice(0, 5))
    features = learner.features(inputs)
    assert features.shape == (5, dim)
    assert learner.feature_dim == dim
    assert torch.equal(learner(inputs), learner.outputs(features))
    expected = features @ learner.head.weight.T + learner.head.bias
    torch.testing.assert_close(learner(inputs), expected)
    assert learner(inputs).shape == (5, classes)


def test_the_network_of_the_paper_reads_digits_of_28_pixels():
    learner = PAPER.build(0)
    pixels = np.random.default_rng(0).integers(256, size=(3, 784), dtype=np.uint8)
    inputs = learner.encode(vectors(pixels))
    assert inputs["pixels"].shape == (3, 1, 28, 28)
    assert learner.features(inputs).shape == (3, 256)
    assert learner(inputs).shape == (3, 10)
    layers = [type(layer).__name__ for layer in learner.modules()]
    assert (layers.count("Conv2d"), layers.count("Linear")) == (3, 2)


def test_without_hidden_layers_the_features_are_the_vectors():
    rows = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    learner = LINEAR.build(0)
    assert learner.features(learner.encode(vectors(rows))).tolist() == rows.tolist()


@pytest.mark.parametrize("spec", [MLP, CNN])
def test_the_seed_alone_decides_the_weights(spec):
    before = torch.get_rng_state()
    first, other = spec.build(3), spec.build(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(state(spec.build(3)), state(first))
    assert not torch.equal(state(other), state(first))
    assert not first.training


@pytest.mark.parametrize("spec", [MLP, CNN])
def test_a_head_is_drawn_anew_from_its_seed_and_nothing_else_changes(spec):
    learner, same = spec.build(0), spec.build(0)
    before = torch.get_rng_state()
    body = [parameter.clone() for parameter in learner.body.parameters()]
    old = learner.head.weight.clone()
    learner.reset_head(7)
    same.reset_head(7)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(learner.head.weight, old)
    assert torch.equal(state(learner), state(same))
    assert all(torch.equal(a, b) for a, b in zip(body, learner.body.parameters(), strict=True))


def test_load_builds_and_reads_weights(tmp_path):
    save_checkpoint(MLP.build(5), tmp_path / "weights")
    assert torch.equal(state(load(MLP, str(tmp_path / "weights"), seed=0)), state(MLP.build(5)))
    assert torch.equal(state(load(MLP, None, seed=5)), state(MLP.build(5)))


def test_any_factory_can_be_named():
    learner = ModelSpec("ray_itl.training.models.classifiers:Mlp", MLP.options).build(1)
    assert torch.equal(state(learner), state(MLP.build(1)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet", {}, r"model.name='resnet' is not known: use one of causal_lm, .*mnist_cnn.*, or module:factory"),
        ("no.such.module:Model", {}, r"cannot be imported .*No module named 'no'"),
        (":Model", {}, r"cannot be imported"),
        (f"{HERE}:Missing", {}, r"cannot be imported .*Missing"),
        (f"{HERE}:MLP", {}, r"is a ModelSpec: name a class or function"),
        (f"{HERE}:vectors", {"rows": [[1]]}, r"Learner"),
        ("mlp", {"input_dim": 3, "classes": 2, "depth": 1}, r"model.options do not fit 'mlp' .*'depth'.*hidden"),
        ("mlp", {}, r"missing a required argument: 'input_dim'"),
        ("mlp", {"input_dim": 0, "classes": 2}, r"sizes >= 1"),
        ("mnist_cnn", {"side": 3}, r"side >= 4"),
        ("mnist_cnn", {"widths": [1, 2]}, r"three"),
        ("mnist_cnn", {"std": [0.0]}, r"positive"),
        ("mnist_cnn", {"mean": [0.0, 1.0]}, r"one a channel"),
    ],
)
def test_a_wrong_specification_is_told_so(name, options, message, monkeypatch):
    monkeypatch.setattr(f"{HERE}.vectors", lambda rows: rows)
    with pytest.raises(ConfigError, match=message):
        ModelSpec(name, options).build(0)


def test_options_must_be_plain():
    with pytest.raises(ConfigError, match="JSON"):
        ModelSpec("mlp", {"input_dim": torch.tensor(3)})


class Headless(Learner):
    feature_dim = 1

    def encode(self, column):
        raise NotImplementedError

    def features(self, inputs):
        raise NotImplementedError

    def outputs(self, features):
        raise NotImplementedError


def test_a_model_without_a_head_says_so():
    with pytest.raises(ConfigError, match="Headless cannot draw its head anew"):
        Headless().reset_head(0)


def test_examples_survive_a_file(tmp_path):
    some = digits().take(slice(0, 10))
    write_examples(tmp_path / "a", some)
    back = read_examples(tmp_path / "a")
    assert some.labels is not None
    assert back.labels is not None
    assert torch.equal(back.inputs["vectors"], some.inputs["vectors"])
    assert torch.equal(back.labels, some.labels)
    write_examples(tmp_path / "b", Examples(some.inputs))
    assert read_examples(tmp_path / "b").labels is None
    write_examples(tmp_path / "c", digits().take(torch.arange(10)))
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


def test_examples_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(InputError, match="one length"):
        Examples({"vectors": torch.zeros(3, 2)}, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="no columns"):
        Examples({})
    with pytest.raises(InputError, match="int64"):
        Examples({"vectors": torch.zeros(3, 2)}, torch.zeros(3))
    with pytest.raises(InputError, match="does not exist"):
        read_examples(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        read_examples(tmp_path / "bad")
    save_checkpoint(MLP.build(0), tmp_path / "weights")
    with pytest.raises(InputError, match="holds no examples"):
        read_examples(tmp_path / "weights")


def test_columns_are_encoded_row_by_row():
    learner = MLP.build(0)
    with pytest.raises(InputError, match=r"row 1 .* 63 numbers where the model reads 64"):
        learner.encode(pa.array([[0.0] * 64, [0.0] * 63]))
