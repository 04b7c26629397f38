"""Steps on each pick in turn, on a tiny model of random weights."""

import pyarrow as pa
import pytest
import torch

from benchmarks.value.settings import SiftSettings, TuningOptions
from benchmarks.value.tuning import Tuner
from ray_itl.errors import ConfigError
from ray_itl.training.examples import Examples
from ray_itl.training.models.language_model import CausalLm
from ray_itl.training.objectives import CausalLanguageModelling, evaluate
from ray_itl.training.seeds import derive_seed, drawing_from
from tests.training.test_language_model import write_tiny_llama

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers
TEST = "the cat sat on the mat"
PICKS = {
    "a": ["the dog", "a cat", "the mat and", "a dog"],
    "b": ["the dog", "a cat", "the cat", "a dog"],
    "c": ["the dog", "a cat"],
    "d": ["a mat", "a cat", "the cat", "a dog"],
    "e": ["the dog", "a cat", "the mat and", "a dog"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_llama(tmp_path_factory.mktemp("llama")))


def options(**values) -> TuningOptions:
    modules = ["q_proj", "down_proj"]
    given = {"n": 4, "scored_after": [1, 2, 4], "start_token": "<s>", "lora_rank": 2, "lora_modules": modules, **values}
    return SiftSettings(**{"precision": "float32", "learning_rate": 0.05, **given})


def test_a_curve_is_that_of_plain_training(folder: str) -> None:
    own = options()
    ((rule, curve),) = Tuner(own, folder, 3).curves(TEST, {"a": PICKS["a"]})
    with drawing_from(derive_seed(3, "adapters")):
        learner = CausalLm(folder, lora_rank=2, lora_modules=own.lora_modules, start_token="<s>")
    optimiser = torch.optim.Adam([each for each in learner.parameters() if each.requires_grad], lr=0.05)
    test = Examples(learner.encode(pa.array([TEST])))
    expected = {0: evaluate(learner, test, CausalLanguageModelling())["bits_per_byte"]}
    for place, text in enumerate(PICKS["a"], start=1):
        optimiser.zero_grad()
        inputs = learner.encode(pa.array([text]))
        learner.model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}, labels=inputs["input_ids"])[
            "loss"
        ].backward()
        optimiser.step()
        if place in (1, 2, 4):
            expected[place] = evaluate(learner, test, CausalLanguageModelling())["bits_per_byte"]
    assert rule == "a"
    assert curve.bits == pytest.approx(expected, rel=1e-4)
    assert curve.bits[4] != curve.bits[0]


def test_what_rules_have_in_common_changes_no_curve(folder: str) -> None:
    tuner = Tuner(options(), folder, 0)
    together = {rule: curve.bits for rule, curve in tuner.curves(TEST, PICKS)}
    assert set(together) == set(PICKS)
    for rule, texts in PICKS.items():
        ((_, alone),) = tuner.curves(TEST, {rule: texts})
        assert alone.bits == together[rule]
    assert together["a"] == together["e"]
    assert together["c"].keys() == {0, 1, 2}
    assert len({curve[4] for rule, curve in together.items() if rule != "c"}) == 3


def test_every_test_begins_anew_and_seeds_differ(folder: str) -> None:
    tuner = Tuner(options(), folder, 0)
    first = [curve.bits for _, curve in tuner.curves(TEST, {"b": PICKS["b"]})]
    list(tuner.curves("a dog", PICKS))
    assert [curve.bits for _, curve in tuner.curves(TEST, {"b": PICKS["b"]})] == first
    ((_, other),) = Tuner(options(), folder, 1).curves(TEST, {"b": PICKS["b"]})
    assert other.bits[0] == first[0][0]
    assert other.bits[4] != first[0][4]


def test_bfloat16_is_near_and_scores_are_of_the_same_adapters(folder: str) -> None:
    exact, rounded = (
        next(Tuner(options(precision=precision), folder, 0).curves(TEST, {"a": PICKS["a"]}))[1].bits
        for precision in ("float32", "bfloat16")
    )
    assert rounded[0] == exact[0]
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded[4] != exact[4]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"n": 0}, {"scored_after": [1, 2]}, {"scored_after": [2, 2, 4]}, {"scored_after": []}, {"precision": "half"}),
        *({"rules": ["nearest", "nearest"]}, {"rules": ["near"]}, {"rules": []}, {"pools": ["dirty"]}, {"tests": 51}),
        *({"first_test": 100}, {"leak": 0.0}, {"leak": 1.5}, {"learning_rate": 0.0}, {"processes": -1}),
    ],
)
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=rf"sift\.{next(iter(wrong))}=.* cannot be used"):
        options(**wrong)
