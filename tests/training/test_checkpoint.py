"""Checkpoints: what goes in comes out, and nothing else is taken for one."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.training.checkpoint import load_checkpoint, save_checkpoint


class Tied(nn.Module):
    """Two names for one weight, a frozen layer, a buffer, an empty tensor, and a weight not laid out row by row."""

    def __init__(self, seed: int, dim: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(6, dim)
        self.output = nn.Linear(dim, 6, bias=False)
        self.output.weight = self.embedding.weight
        self.frozen = nn.Linear(dim, dim).requires_grad_(False)
        self.register_buffer("count", torch.tensor(seed))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.transposed = nn.Parameter(torch.randn(3, 4).T)


@pytest.fixture(autouse=True)
def _random_state():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def same(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_round_trip(tmp_path):
    save_checkpoint(Tied(1), tmp_path / "a")
    model = Tied(2)
    assert not same(model, Tied(1))
    load_checkpoint(model, tmp_path / "a")
    assert same(model, Tied(1))
    assert model.output.weight is model.embedding.weight
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_same_weights_give_the_same_bytes_and_tied_ones_are_kept_once(tmp_path):
    for name in "ab":
        save_checkpoint(Tied(1), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert set(load_file(tmp_path / "a")) == {
        *("embedding.weight", "frozen.weight", "frozen.bias", "count", "empty", "transposed"),
    }


def test_views_of_one_memory_are_kept_apart(tmp_path):
    model = nn.Module()
    memory = torch.arange(6.0)
    model.register_buffer("left", memory[:4])
    model.register_buffer("right", memory[2:])
    save_checkpoint(model, tmp_path / "a")
    assert load_file(tmp_path / "a")["right"].tolist() == [2, 3, 4, 5]


def test_only_what_is_trained(tmp_path):
    save_checkpoint(Tied(1), tmp_path / "a", trainable_only=True)
    assert set(load_file(tmp_path / "a")) == {"embedding.weight", "empty", "transposed"}
    model = Tied(2)
    load_checkpoint(model, tmp_path / "a")
    assert torch.equal(model.output.weight, Tied(1).output.weight)
    assert torch.equal(model.frozen.weight, Tied(2).frozen.weight)


@pytest.mark.parametrize("keep", [0, 4, 100, -8])
def test_a_damaged_file_is_refused(tmp_path, keep):
    save_checkpoint(Tied(1), tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:keep])
    model = Tied(2)
    with pytest.raises(InputError, match=r"a checkpoint '.*/a' cannot be read .* make it again"):
        load_checkpoint(model, tmp_path / "a")
    assert same(model, Tied(2))


def test_a_pickle_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    (tmp_path / "a").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="not safetensors"):
        load_checkpoint(Tied(1), tmp_path / "a")


def test_a_missing_file_and_one_of_something_else(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_checkpoint(Tied(1), tmp_path / "a")
    header = {"format": "checkpoint/0", "trainable_only": False, "aliases": {}}
    for metadata in ({}, {"ray_itl": "{"}, {"ray_itl": "3"}, {"ray_itl": json.dumps(header)}):
        save_file({"count": torch.tensor(1)}, tmp_path / "b", metadata)
        with pytest.raises(InputError, match="not a checkpoint of ray_itl"):
            load_checkpoint(Tied(1), tmp_path / "b")


def test_aliases_that_lead_nowhere_are_refused(tmp_path):
    header = {"format": "checkpoint/1", "trainable_only": False, "aliases": {"x": "y"}}
    save_file({"count": torch.tensor(1)}, tmp_path / "a", {"ray_itl": json.dumps(header)})
    with pytest.raises(InputError, match="not a checkpoint of ray_itl"):
        load_checkpoint(Tied(1), tmp_path / "a")


def test_the_checkpoint_of_another_model_changes_nothing(tmp_path):
    save_checkpoint(Tied(1, dim=7), tmp_path / "size")
    save_checkpoint(Tied(1).double(), tmp_path / "dtype")
    save_checkpoint(nn.Linear(2, 2), tmp_path / "names")
    model = Tied(2)
    for name, message in (
        ("size", r"'embedding.weight' is \(6, 7\) torch.float32, the model's \(6, 5\)"),
        ("dtype", r"is \(0, 3\) torch.float64, the model's \(0, 3\) torch.float32"),
        ("names", r"it lacks \['count', 'embedding.weight', 'empty'\] and has \['bias', 'weight'\] beyond"),
    ):
        with pytest.raises(InputError, match=message):
            load_checkpoint(model, tmp_path / name)
    assert same(model, Tied(2))


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(RunDirectoryError, match="no/such/folder"):
        save_checkpoint(Tied(1), tmp_path / "no/such/folder/a")
