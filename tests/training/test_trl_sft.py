"""The recipe for TRL: rounds of picking and supervised fine-tuning, on a tiny model of random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.errors import ConfigError
from ray_itl.rounds.group_settings import DataSettings, ModelSettings, RoundSettings, RuleSettings, TuningRunSettings
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.trainer_settings import TrainerSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.trl_sft import TrlSft

transformers, _ = pytest.importorskip("transformers"), pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and what it stands on, about each other
KIND = "ray_itl.training.trl_sft:TrlSft"
WORDS = {"bread": ["flour", "dough", "crust", "oven", "loaf"], "stars": ["dwarf", "orbit", "light", "giant", "sky"]}
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
SFT = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "max_length": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GPT-2 of two layers and a tokenizer of words with a chat template, as files."""
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("gpt2")
    known = [
        "<s>",
        "<unk>",
        "user",
        "assistant",
        "what",
        "is",
        *(word for some in WORDS.values() for word in some),
        *WORDS,
    ]
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: k for k, word in enumerate(known)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="<s>", pad_token="<s>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(path)
    config = transformers.GPT2Config(
        vocab_size=len(known), n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return str(path)


def sentences(count: int, topic: str, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join([topic, "is", *rng.choice(WORDS[topic], 4)]) for _ in range(count)]


def write_rows(folder: Path) -> DataSettings:
    parts = {
        "pool": [*sentences(30, "bread", 0), *sentences(30, "stars", 1)],
        "target": sentences(8, "bread", 2),
        "heldout": sentences(20, "bread", 3),
    }
    for name, texts in parts.items():
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / f"{name}.parquet")
    return DataSettings(*(str(folder / f"{name}.parquet") for name in parts), raw_column="text")


def settings_of(folder: Path, **options: object) -> FineTuneSettings:
    return FineTuneSettings(
        data=write_rows(folder),
        model=ModelSettings(objective="causal_lm"),
        acquisition=RuleSettings("itl", 0.1),
        rounds=RoundSettings(2, 6),
        trainer=TrainerSettings(KIND, options),
        run=TuningRunSettings(str(folder / "run"), log="quiet"),
    )


def test_rounds_by_trl_learn_from_what_was_picked(model: str, tmp_path: Path) -> None:
    result = ActiveFineTuner(settings_of(tmp_path, model=model, sft=SFT)).run()
    loss = result.curves.column("heldout.loss").to_pylist()
    assert loss[-1] < loss[0] - 0.1
    assert result.checkpoint == tmp_path / "run" / "rounds" / "0002" / "checkpoint" / "model"
    assert result.checkpoint is not None
    left = {path.name for path in result.checkpoint.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= left
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    examples = pq.read_table(result.checkpoint.parents[1] / "examples.parquet")
    assert examples.column_names == ["id", "text"]
    assert len(examples) == 12


def test_every_kind_of_row_is_trained_on_and_embedded(model: str, tmp_path: Path) -> None:
    chats = [
        [{"role": "user", "content": "what is bread"}, {"role": "assistant", "content": text}]
        for text in WORDS["bread"]
    ]
    tables = {
        "text": pa.table({"id": range(5), "anything": WORDS["bread"]}),
        "chat": pa.table({"id": range(5), "messages": chats, "label": ["a"] * 5}),
        "pair": pa.table(
            {"id": range(5), "prompt": ["what is bread"] * 5, "completion": [" " + w for w in WORDS["bread"]]}
        ),
    }
    for name, table in tables.items():
        trainer = TrlSft(model, sft={**SFT, "max_steps": 2}, lora_rank=2)
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "rows.parquet")
        checkpoint = trainer.train(tmp_path / name / "rows.parquet", None, tmp_path / name, 7)
        before, after = (trainer.score(each, tmp_path / name / "rows.parquet")["loss"] for each in (None, checkpoint))
        assert after < before
        column = table.column(1).combine_chunks()
        assert trainer.features(checkpoint, column).shape == (5, 16)
        assert not np.allclose(trainer.features(checkpoint, column), trainer.features(None, column))


def test_the_same_seed_gives_the_same_weights(model: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(20), "text": sentences(20, "stars", 0)}), tmp_path / "rows.parquet")
    kept = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        path = TrlSft(model, sft=SFT).train(tmp_path / "rows.parquet", None, tmp_path / name, seed)
        kept.append((path / "model.safetensors").read_bytes())
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, r"trainer\.options\.workers=-1"),
        ({"sft": {"learning_rat": 1}}, r"trainer\.options\.sft\.learning_rat cannot be used: name an argument"),
        ({"sft": {"output_dir": "x"}}, r"trainer\.options\.sft\.output_dir"),
    ],
)
def test_options_are_checked_before_any_work(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ActiveFineTuner(settings_of(tmp_path, model="nowhere", **options)).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("cluster")
def test_two_workers_of_ray_train_learn_as_well(model: str, tmp_path: Path) -> None:
    options = {"model": model, "sft": {**SFT, "per_device_train_batch_size": 2}, "workers": 2, "cpus_per_worker": 0.5}
    result = ActiveFineTuner(replace(settings_of(tmp_path, **options), rounds=RoundSettings(1, 6))).run()
    loss = result.curves.column("heldout.loss").to_pylist()
    assert loss[-1] < loss[0] - 0.1
    assert result.checkpoint is not None
    assert (result.checkpoint / "model.safetensors").exists()
