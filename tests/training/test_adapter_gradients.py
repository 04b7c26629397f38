"""Gradients of adapters by hooks are those that torch computes for each text alone."""

from __future__ import annotations

import gc
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from ray_itl.errors import ConfigError
from ray_itl.training.adapter_gradients import adapter_gradients, adapter_layers
from ray_itl.training.examples import Examples
from ray_itl.training.inputs import ANSWERS
from ray_itl.training.learner import Inputs, Learner, num_rows, take
from ray_itl.training.models.language_model import CausalLm
from ray_itl.training.objectives import CausalLanguageModelling
from tests.training.test_language_model import TEXTS, write_tiny_llama

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of peft, about the newest transformers
    pytest.mark.filterwarnings("ignore:fan_in_fan_out"),
    pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings"),
]
KINDS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models of random weights: one of linear layers, and one of GPT-2's own kind of them."""
    llama, gpt2 = (write_tiny_llama(tmp_path_factory.mktemp(name)) for name in KINDS)
    config = transformers.GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(gpt2)
    return {"llama": llama, "gpt2": gpt2}


def trained(folder: Path, modules: list[str]) -> CausalLm:
    """A model in float64 whose adapters are as in the middle of a training, so that neither matrix is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        learner = CausalLm(str(folder), lora_rank=2, lora_modules=modules).eval().double()
        with torch.no_grad():
            for layer in adapter_layers(learner).values():
                layer.weight.normal_(std=0.3)
    return learner


def gradients(learner: Learner, inputs: Inputs) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    adapter_gradients(learner, adapter_layers(learner), inputs, lambda name, rows: found.update({name: rows}))
    return found


def one_by_one(learner: Learner, inputs: Inputs) -> dict[str, Tensor]:
    """By definition: the mean loss of a text's tokens, differentiated for each text alone."""
    layers = adapter_layers(learner)
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    for row in range(num_rows(inputs)):
        loss, tokens = CausalLanguageModelling().loss(learner, Examples(take(inputs, slice(row, row + 1))))
        weights = [layer.weight for layer in layers.values()]
        for name, gradient in zip(layers, torch.autograd.grad(loss / tokens, weights), strict=True):
            found[name].append(gradient)
    return {name: torch.stack(rows) for name, rows in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_those_of_each_text_alone(folders: dict[str, Path], kind: str) -> None:
    learner = trained(folders[kind], KINDS[kind])
    inputs = learner.encode(pa.array(TEXTS))
    found, expected = gradients(learner, inputs), one_by_one(learner, inputs)
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 3 * 2  # layers, adapters in each (GPT-2 has two c_proj), matrices
    for name, rows in expected.items():
        assert rows.abs().max() > 1e-6
        torch.testing.assert_close(found[name], rows, rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_only_answers_count(folders: dict[str, Path]) -> None:
    learner = trained(folders["llama"], KINDS["llama"])
    whole = learner.encode(pa.array(TEXTS))
    answers = torch.zeros_like(whole["input_ids"])
    answers[:, 2], answers[2, 5:9] = 1, 1
    inputs = {**whole, ANSWERS: answers}
    found, expected = gradients(learner, inputs), one_by_one(learner, inputs)
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], rows, rtol=1e-9, atol=1e-12)
    name = next(iter(expected))
    assert not torch.allclose(found[name], gradients(learner, whole)[name])


def test_neither_padding_nor_company_changes_them(folders: dict[str, Path]) -> None:
    learner = trained(folders["gpt2"], KINDS["gpt2"])
    whole = learner.encode(pa.array(TEXTS))
    padded = {
        "input_ids": torch.nn.functional.pad(whole["input_ids"], (0, 7), value=3),
        "attention_mask": torch.nn.functional.pad(whole["attention_mask"], (0, 7)),
    }
    expected, alone = gradients(learner, whole), gradients(learner, take(whole, slice(1, 2)))
    for name, rows in gradients(learner, padded).items():
        torch.testing.assert_close(rows, expected[name], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(alone[name], expected[name][1:2], rtol=1e-9, atol=1e-12)


def test_before_any_training_the_first_matrix_has_none_and_the_second_that_of_the_layer_itself(
    folders: dict[str, Path],
) -> None:
    learner = CausalLm(str(folders["llama"]), lora_rank=2, lora_modules=["v_proj"]).eval().double()
    inputs = learner.encode(pa.array(TEXTS[:1]))
    found = gradients(learner, inputs)
    plain = transformers.LlamaForCausalLM.from_pretrained(folders["llama"]).double()
    plain(
        **{name: inputs[name] for name in ("input_ids", "attention_mask")}, labels=inputs["input_ids"]
    ).loss.backward()
    for number, layer in enumerate(plain.model.layers):  # transformers computes this loss in float32
        (first,) = (name for name in found if f"layers.{number}." in name and "lora_A" in name)
        assert found[first].abs().max() == 0
        own = 2 * layer.self_attn.v_proj.weight.grad @ adapter_layers(learner)[first].weight.mT  # alpha / rank is 2
        torch.testing.assert_close(found[first.replace("lora_A", "lora_B")][0], own, rtol=1e-5, atol=1e-7)


class Twice(CausalLm):
    """A model that reads everything twice, of which the second time counts half."""

    def forward(self, inputs: Inputs) -> Tensor:
        return super().forward(inputs) + 0.5 * super().forward(inputs)


def test_a_layer_that_is_called_twice_has_the_sum(folders: dict[str, Path]) -> None:
    learner = trained(folders["llama"], KINDS["llama"])
    learner.__class__ = Twice
    inputs = learner.encode(pa.array(TEXTS))
    found = gradients(learner, inputs)
    for name, rows in one_by_one(learner, inputs).items():
        torch.testing.assert_close(found[name], rows, rtol=1e-9, atol=1e-12)


class Packed(CausalLm):
    """A model whose layers see all rows as one."""

    def forward(self, inputs: Inputs) -> Tensor:
        shape = inputs["input_ids"].shape
        flat = {name: values.reshape(1, -1) for name, values in inputs.items()}
        return super().forward(flat).reshape(*shape, -1)


def test_a_pass_leaves_nothing_in_memory(folders: dict[str, Path]) -> None:
    """What hooks of tensors hold no garbage collector sees: each pass could keep its activations for good."""
    learner = trained(folders["llama"], KINDS["llama"])
    inputs = learner.encode(pa.array(TEXTS))
    counts = []
    for _ in range(3):
        adapter_gradients(learner, adapter_layers(learner), inputs, lambda *_: None)
        gc.collect()
        counts.append(sum(isinstance(each, Tensor) for each in gc.get_objects()))
    assert counts[2] == counts[1] == counts[0]


def test_what_has_no_gradients_of_its_own_is_told_so(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"needs a causal language model with adapters: .*lora_rank"):
        adapter_layers(CausalLm(str(folders["llama"])))
    with pytest.raises(ConfigError, match=r"linear layers, which .*lora_embedding.* is not: .*lora_modules"):
        adapter_layers(CausalLm(str(folders["llama"]), lora_rank=2, lora_modules=["embed_tokens", "q_proj"]))
    learner = trained(folders["llama"], KINDS["llama"])
    learner.__class__ = Packed
    with pytest.raises(ConfigError, match=r"cannot tell rows apart in .*q_proj\.lora_A"):
        gradients(learner, learner.encode(pa.array(TEXTS)))
