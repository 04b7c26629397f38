"""The suite of gradients on a tiny model: each rule sees what it says it sees."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.value import gradients as gradients_module
from benchmarks.value.gradients import run_gradients
from benchmarks.value.settings import GradientsSettings, SiftSettings
from benchmarks.value.sift_report import sift_tables
from ray_itl.errors import ConfigError, InputError
from ray_itl.training.adapter_gradients import adapter_layers
from ray_itl.training.registry import ModelSpec, load
from ray_itl.training.second_moments import read_second_moments
from tests.benchmarks.value.passages import corpus
from tests.training.test_adapter_gradients import gradients
from tests.training.test_language_model import write_tiny_llama

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> GradientsSettings:
    return GradientsSettings(
        model=str(write_tiny_llama(tmp_path_factory.mktemp("llama"))), start_token="<s>", lora_rank=2,
        lora_modules=["q_proj"], precision="float32", learning_rate=0.05, n=4, scored_after=[2, 4], processes=0,
        tests=1, nearest=5, others=3, warmup=3, projection_dim=4096,
        rules=["random", "nearest", "rds-nearest", "lora-nearest", "lora-vtl@10", "adam-nearest"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(settings: GradientsSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("gradients")
    run_gradients(settings, 0, found, lambda _: None, corpus())
    return found


def test_the_nearest_by_gradients_are_those_of_the_gradients_themselves(
    settings: GradientsSettings, folder: Path
) -> None:
    """With no more numbers than the sketch has, cosines of sketches are those of gradients, divided as Adam does."""
    pool, _ = corpus().among(tests := corpus().tests(50, 1), 5, 3, 3)
    (kept,) = (folder / "gradients").iterdir()
    options = {"path": settings.model, "max_tokens": 128, "start_token": "<s>", "lora_rank": 2}
    spec = ModelSpec("causal_lm", {**options, "lora_modules": ["q_proj"], "dtype": "float32"})
    learner = load(spec, str(kept / "warmup/checkpoint.safetensors"), 0)
    weights = {f"{name}.weight": layer.weight for name, layer in adapter_layers(learner).items()}
    moments = read_second_moments(kept / "warmup/checkpoint.second_moments.safetensors", weights)
    assert all((values > 0).any() for values in moments.values())
    inputs = learner.encode(pa.array([*pool.texts.to_pylist(), *(test.text for test in tests)]))
    found = gradients(learner, inputs)
    scaled = {own: part * (moments[f"{own}.weight"].sqrt() + 1e-8) ** -0.5 for own, part in found.items()}
    for name, parts in (("lora", found), ("adam", scaled)):
        rows = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
        rows = torch.nn.functional.normalize(rows.double(), dim=1)
        cosines = rows[: len(pool.rows)] @ rows[len(pool.rows) :].T
        (file,) = (kept / "picks").glob(f"picks-{name}-nearest-*.json")
        for own, picked in zip(cosines.T, json.loads(file.read_text()), strict=True):
            best = own.sort(descending=True).values[:4]
            torch.testing.assert_close(own[picked["rows"]], best, rtol=0, atol=1e-5)


def test_a_finished_run_is_only_read(
    settings: GradientsSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    monkeypatch.setattr(gradients_module, "LocalTrainer", None)
    found = run_gradients(settings, 0, folder, lambda _: None, corpus())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before
    text = sift_tables(found, settings)
    assert text.startswith("gradients: ")
    assert "| nearest, by gradients as Adam scales them (LESS) | " in text
    assert len({tuple(map(tuple, [own.rows for own in each.picked])) for each in found.pools[0].outcomes}) > 3


def test_pool_and_warmup_share_no_row() -> None:
    tests = corpus().tests(50, 1)
    pool, apart = corpus().among(tests, 5, 3, 3)
    assert len(pool.rows) <= 3 * 5 + 3
    assert len(np.unique(pool.origins)) == len(pool.rows)
    assert len(apart) == 3
    assert not {*apart} & {*pool.texts.to_pylist()}
    with pytest.raises(InputError, match="ask for fewer"):
        corpus().among(tests, 5, 3, 1000)


def test_rules_of_features_are_of_this_suite_alone() -> None:
    with pytest.raises(ConfigError, match=r"gradients\.rules"):
        GradientsSettings(rules=["adam-random"])
    with pytest.raises(ConfigError, match=r"sift\.rules"):
        SiftSettings(rules=["nearest", "adam-nearest"])
