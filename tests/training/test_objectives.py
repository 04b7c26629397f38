"""Losses and scores, against formulas written out by hand."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.examples import Examples
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.objectives import (
    CausalLanguageModelling,
    Classification,
    class_weights,
    evaluate,
    training_objective,
)
from tests.training.worker_helpers import MLP, digits, on_threads

FEW = digits().take(slice(0, 100))


def test_class_weights_are_n_over_classes_present_times_count():
    labels = torch.tensor([0, 0, 0, 2, 2, 5])
    assert class_weights(labels).tolist() == pytest.approx([6 / (3 * 3), 0, 6 / (3 * 2), 0, 0, 6 / (3 * 1)])
    assert class_weights(labels)[labels].sum().item() == pytest.approx(6)


def test_classification_loss_is_a_weighted_sum_with_its_weight():
    learner = MLP.build(0)
    labels = FEW.labels
    assert labels is not None
    by_class = class_weights(labels)
    probabilities = learner(FEW.inputs).softmax(dim=1).detach().numpy()
    expected = sum(-by_class[y].item() * math.log(p[y]) for p, y in zip(probabilities, labels.tolist(), strict=True))
    total, weight = Classification(by_class).loss(learner, FEW)
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert weight.item() == pytest.approx(sum(by_class[y].item() for y in labels.tolist()), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_classification_scores(batch_size):
    learner = MLP.build(0)
    assert FEW.labels is not None
    some = FEW.take((FEW.labels != 3).nonzero()[:, 0])  # a class is absent
    assert some.labels is not None
    labels = some.labels.numpy()
    logits = learner(some.inputs).detach().double()
    guesses = logits.argmax(dim=1).numpy()
    by_class = {str(c): float(np.mean(guesses[labels == c] == c)) for c in range(10) if c != 3}
    scores = evaluate(learner, some, Classification(), batch_size)
    assert scores["accuracy"] == pytest.approx(np.mean(guesses == labels))
    assert scores["class_accuracy"] == pytest.approx(by_class)
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(list(by_class.values())))
    pairs = Counter(zip(labels.tolist(), guesses.tolist(), strict=True))
    assert scores["confusion"] == [[true, said, count] for (true, said), count in sorted(pairs.items())]
    assert scores["log_loss"] == pytest.approx(-logits.log_softmax(dim=1)[range(len(labels)), labels].mean().item())


def test_workers_share_an_evaluation():
    learner = MLP.build(0)
    for rows, size in ((100, 2), (100, 3), (5, 3)):
        some = FEW.take(slice(0, rows))
        expected = evaluate(learner, some, Classification(), 5)
        for scores in on_threads(size, lambda w, some=some: evaluate(learner, some, Classification(), 5, w)):
            exact = ("class_accuracy", "confusion")
            assert [scores.pop(name) for name in exact] == [expected[name] for name in exact]
            assert scores == pytest.approx({k: v for k, v in expected.items() if k not in exact})


def test_an_evaluation_leaves_the_mode_and_needs_examples():
    learner = MLP.build(0).train()
    evaluate(learner, FEW, Classification())
    assert learner.training
    with pytest.raises(InputError, match="held-out"):
        evaluate(learner, FEW.take(slice(0, 0)), Classification())


class Bigram(Learner):
    """Predicts the next token from the present one."""

    feature_dim = 7

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 7)

    def encode(self, column: pa.Array) -> Inputs:
        raise NotImplementedError

    def features(self, inputs: Inputs) -> Tensor:
        raise NotImplementedError

    def outputs(self, features: Tensor) -> Tensor:
        return features

    def forward(self, inputs: Inputs) -> Tensor:
        return self.table(inputs["input_ids"])


TEXTS = [[0, 3, 5, 1], [0, 2], [0, 6, 6, 6, 4, 2]]


def token_examples(width: int = 9) -> Examples:
    ids = torch.tensor([row + [0] * (width - len(row)) for row in TEXTS])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in TEXTS])
    return Examples({"input_ids": ids, "attention_mask": mask, "num_bytes": torch.tensor([10, 3, 20])})


def test_language_modelling_predicts_every_token_but_the_first_and_no_padding():
    torch.manual_seed(0)
    learner = Bigram()
    table = learner.table.weight.detach().double().log_softmax(dim=1)
    nats = -sum(table[a, b].item() for row in TEXTS for a, b in pairwise(row))
    total, tokens = CausalLanguageModelling().loss(learner, token_examples())
    assert total.item() == pytest.approx(nats, rel=1e-5)
    assert tokens.item() == 3 + 1 + 5
    for batch_size in (1, 2, 8):
        scores = evaluate(learner, token_examples(), CausalLanguageModelling(), batch_size)
        assert scores["bits_per_byte"] == pytest.approx(nats / math.log(2) / 33, rel=1e-5)
        assert scores["loss"] == pytest.approx(nats / 9, rel=1e-5)


def test_language_modelling_says_what_its_examples_lack():
    objective = training_objective("causal_lm", FEW, reweight_classes=True)
    with pytest.raises(InputError, match="attention_mask, input_ids, num_bytes"):
        objective.check(Bigram(), FEW)
    short = token_examples()
    short.inputs["attention_mask"][1, 1:] = 0
    with pytest.raises(InputError, match=r"example 1 .* no token to predict"):
        objective.check(Bigram(), short)


def test_unknown_objectives_are_refused():
    with pytest.raises(ConfigError, match=r"objective='regression'.*classification, causal_lm"):
        training_objective("regression", FEW, reweight_classes=True)
