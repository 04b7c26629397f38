"""Language models, on a tiny one with random weights; skipped without the extra `text`."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.examples import Examples, write_examples
from ray_itl.training.models.language_model import CausalLm
from ray_itl.training.objectives import CausalLanguageModelling, evaluate
from ray_itl.training.registry import ModelSpec, load
from ray_itl.training.settings import TrainingSettings
from ray_itl.training.trainer import LocalTrainer, TrainTask

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers
TEXTS = ["the cat sat on the mat", "a dog", "the dog sat é on a cat and the mat and the cat"]
WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


def write_tiny_llama(path: Path, known: Sequence[str] = WORDS) -> Path:
    """Write a Llama of two layers and a tokenizer of words."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: k for k, word in enumerate(["<s>", "<unk>", *known])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="<unk>")
    fast.save_pretrained(path)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(vocabulary), tie_word_embeddings=True, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


def spec(folder: Path, **options) -> ModelSpec:
    return ModelSpec("causal_lm", {"path": str(folder), **options})


def examples(learner) -> Examples:
    return Examples(learner.encode(pa.array(TEXTS)))


def test_texts_become_padded_tokens_after_a_start_token(folder):
    inputs = spec(folder).build(0).encode(pa.array(TEXTS))
    assert inputs["input_ids"].shape == (3, 14)
    assert inputs["input_ids"][:, 0].tolist() == [0, 0, 0]
    assert inputs["attention_mask"].sum(dim=1).tolist() == [7, 3, 14]
    assert inputs["num_bytes"].tolist() == [len(text.encode()) for text in TEXTS]


def test_what_is_cut_off_is_not_counted(folder):
    inputs = spec(folder, max_tokens=4).build(0).encode(pa.array(TEXTS))
    assert inputs["attention_mask"].sum(dim=1).tolist() == [5, 3, 5]
    kept = ["the cat sat on", "a dog", "the dog sat é"]
    assert inputs["num_bytes"].tolist() == [len(text.encode()) for text in kept]


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_features_are_the_mean_state_of_a_text_whatever_it_is_padded_with(folder, lora_rank):
    if lora_rank:
        pytest.importorskip("peft")
    learner = spec(folder, lora_rank=lora_rank).build(0)
    inputs = learner.encode(pa.array(TEXTS))
    with torch.no_grad():
        features = learner.features(inputs)
        plain = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
        for row, text in enumerate(TEXTS):
            ids = inputs["input_ids"][row, : len(text.split()) + 1][None]
            states = plain(ids, output_hidden_states=True).hidden_states[-1][0, 1:]
            torch.testing.assert_close(features[row], states.mean(dim=0), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(learner(inputs)[row, : ids.shape[1]], plain(ids).logits[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(learner.outputs(states), plain(ids).logits[0, 1:], rtol=1e-4, atol=1e-5)
    assert features.shape == (3, learner.feature_dim)


def test_features_may_weigh_tokens_by_their_place(folder):
    learner = spec(folder, pooling="position_weighted").build(0)
    plain = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    inputs = learner.encode(pa.array(TEXTS))
    with torch.no_grad():
        features = learner.features(inputs)
        for row, text in enumerate(TEXTS):
            ids = inputs["input_ids"][row, : len(text.split()) + 1][None]
            states = plain(ids, output_hidden_states=True).hidden_states[-1][0, 1:]
            places = torch.arange(1.0, len(states) + 1)
            torch.testing.assert_close(features[row], places @ states / places.sum(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"pooling='max' cannot be used: use mean or position_weighted"):
        spec(folder, pooling="max").build(0)


def test_bits_per_byte_of_a_hand_written_loop(folder):
    learner = CausalLm(str(folder)).eval()
    some = examples(learner)
    nats = 0.0
    with torch.no_grad():
        for row in range(3):
            length = int(some.inputs["attention_mask"][row].sum())
            ids = some.inputs["input_ids"][row : row + 1, :length]
            logs = learner.model(ids).logits[0].double().log_softmax(dim=1)
            nats -= sum(logs[t, ids[0, t + 1]].item() for t in range(length - 1))
    expected = nats / math.log(2) / len("".join(TEXTS).encode())
    for batch_size in (1, 2, 3):
        scores = evaluate(learner, some, CausalLanguageModelling(), batch_size)
        assert scores["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_it_learns_and_is_rebuilt_from_a_small_file(folder, tmp_path, lora_rank):
    if lora_rank:
        pytest.importorskip("peft")
    model = spec(folder, lora_rank=lora_rank, lora_modules=["q_proj", "v_proj", "down_proj"])
    learner = model.build(0)
    write_examples(tmp_path / "texts", examples(learner))
    before = evaluate(learner, examples(learner), CausalLanguageModelling())["bits_per_byte"]
    texts, output = str(tmp_path / "texts"), str(tmp_path / "out")
    settings = TrainingSettings(epochs=5, batch_size=2, learning_rate=1e-2)
    task = TrainTask(model, texts, output, settings, objective="causal_lm", trainable_only=lora_rank > 0, heldout=texts)
    result = LocalTrainer().fit(task)
    assert result.metrics["bits_per_byte"] < before
    again = load(model, output, seed=5)
    after = evaluate(again, examples(again), CausalLanguageModelling())
    assert after == pytest.approx(result.metrics, rel=1e-6)
    same = LocalTrainer().fit(replace(task, output=output + "2"))
    assert same.losses == result.losses
    assert (tmp_path / "out2").read_bytes() == (tmp_path / "out").read_bytes()
    if lora_rank:
        assert all(parameter.requires_grad == ("lora" in name) for name, parameter in again.named_parameters())
        assert (tmp_path / "out").stat().st_size < (folder / "model.safetensors").stat().st_size


def test_what_cannot_be_a_language_model_is_told_so(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.options\.path='.*' cannot be read as a causal language model"):
        spec(tmp_path).build(0)
    with pytest.raises(ConfigError, match=r"\.gguf"):
        spec(tmp_path / "no.gguf").build(0)
    with pytest.raises(ConfigError, match="max_tokens=0"):
        spec(folder, max_tokens=0).build(0)
    with pytest.raises(ConfigError, match=r"model\.start=warm"):
        spec(folder).build(0).reset_head(0)
    with pytest.raises(InputError, match=r"row 1 .* blank"):
        spec(folder).build(0).encode(pa.array(["a", ""]))


def test_unknown_adapter_layers_are_named(folder):
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match="lora_modules"):
        spec(folder, lora_rank=2, lora_modules=["no_such_layer"]).build(0)


def test_pickled_weights_are_not_read(folder, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be read"):
        spec(tmp_path).build(0)


def test_a_model_without_a_start_token_says_so(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("bos_token")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="neither a start nor an end token"):
        CausalLm(str(tmp_path))
    with pytest.raises(ConfigError, match="start_token='<x>' is no token"):
        CausalLm(str(tmp_path), start_token="<x>")
    inputs = CausalLm(str(tmp_path), start_token="cat").encode(pa.array(["a dog"]))
    assert inputs["input_ids"][0, 0] == CausalLm(str(folder)).encode(pa.array(["cat"]))["input_ids"][0, 1]
