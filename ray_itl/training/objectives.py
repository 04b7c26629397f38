"""What training minimises and what held-out examples are scored by: classification and causal language modelling.

Losses and scores are sums with their weights, never means, so that any split of a batch over workers adds up to the
same result.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.examples import Examples
from ray_itl.training.inputs import ANSWERS, predicted_tokens, trim_padding, without_predictions
from ray_itl.training.learner import Learner
from ray_itl.training.workers import OneWorker, Workers

OBJECTIVES = ("classification", "causal_lm")


class Objective(ABC):
    """A loss and the scores that go with it."""

    @abstractmethod
    def check(self, learner: Learner, examples: Examples) -> None:
        """Raise InputError if the examples cannot be trained on or scored by this learner."""

    @abstractmethod
    def loss(self, learner: Learner, batch: Examples) -> tuple[Tensor, Tensor]:
        """Return two scalars, summed over a batch: the loss (with its graph) and the weight it is to be divided by."""

    @abstractmethod
    def scores(self, learner: Learner, batch: Examples) -> Tensor:
        """Return a float64 vector of sums over a batch, for `summarise`."""

    @abstractmethod
    def summarise(self, scores: Tensor) -> dict[str, Any]:
        """Return named scores from the sum of `scores` over all examples."""


class Classification(Objective):
    """Cross-entropy of class labels, each example weighted by its class: sum_i w[y_i] ce_i / sum_i w[y_i].

    `scores` holds C counts of right answers, C counts of examples, and the sum of log losses (natural logarithm,
    without class weights).
    """

    def __init__(self, weights: Tensor | None = None) -> None:
        """Weigh classes by these (`class_weights`), or all the same."""
        self.weights = weights

    def check(self, learner: Learner, examples: Examples) -> None:
        """Check that every label is a class of the learner's output layer."""
        labels = _labels(examples)
        classes = _num_classes(learner)
        wrong = ((labels < 0) | (labels >= classes)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"example {row} (counting from 0) has label {int(labels[row])}, but the model has classes 0 to "
                f"{classes - 1}: number the classes from 0, or build the model with more of them"
            )

    def loss(self, learner: Learner, batch: Examples) -> tuple[Tensor, Tensor]:
        """Return sum_i w[y_i] ce_i and sum_i w[y_i]."""
        labels = _labels(batch)
        losses = functional.cross_entropy(learner(batch.inputs), labels, reduction="none")
        weights = torch.ones_like(losses) if self.weights is None else self.weights.to(losses)[labels]
        return (weights * losses).sum(), weights.sum()

    def scores(self, learner: Learner, batch: Examples) -> Tensor:
        """Return right answers by class, examples by class, and the sum of log losses: 2C + 1 numbers."""
        labels = _labels(batch)
        logits = learner(batch.inputs).double()
        right = labels[logits.argmax(dim=1) == labels]
        counts = [torch.bincount(values, minlength=logits.shape[1]).double() for values in (right, labels)]
        return torch.cat([*counts, functional.cross_entropy(logits, labels, reduction="sum")[None]])

    def summarise(self, scores: Tensor) -> dict[str, Any]:
        """Return accuracy, balanced_accuracy (mean over classes present), log_loss, and class_accuracy by class."""
        right, counts = scores[:-1].tensor_split(2)
        present = counts.nonzero()[:, 0].tolist()
        by_class = {str(c): float(right[c] / counts[c]) for c in present}
        return {
            "accuracy": float(right.sum() / counts.sum()),
            "balanced_accuracy": math.fsum(by_class.values()) / len(by_class),
            "log_loss": float(scores[-1] / counts.sum()),
            "class_accuracy": by_class,
        }


class CausalLanguageModelling(Objective):
    """Cross-entropy of every token given those before it, of conversations of those of the answers; no padding.

    The first token of a text (the start token, where the learner's `encode` puts one) is given, not predicted.
    `scores` holds the sum of token losses in nats, the number of tokens predicted, and the bytes of their texts.
    """

    def check(self, learner: Learner, examples: Examples) -> None:
        """Check that the inputs are token ids with mask and byte counts, and that each row has a token to predict."""
        del learner
        missing = {"input_ids", "attention_mask", "num_bytes"} - examples.inputs.keys()
        if missing:
            raise InputError(
                f"examples lack {', '.join(sorted(missing))}: the objective causal_lm needs a language model "
                "(model.name=causal_lm)"
            )
        if short := without_predictions(examples.inputs):
            cut = (
                ", or raise model.options.max_tokens: no answer is left within it" if ANSWERS in examples.inputs else ""
            )
            raise InputError(f"example {short[0]} (counting from 0) has no token to predict: drop it{cut}")

    def loss(self, learner: Learner, batch: Examples) -> tuple[Tensor, Tensor]:
        """Return the sum of token losses and the number of tokens."""
        inputs = trim_padding(batch.inputs)
        predicted = predicted_tokens(batch.inputs)
        logits = learner(inputs)[:, :-1][predicted].float()
        total = functional.cross_entropy(logits, inputs["input_ids"][:, 1:][predicted], reduction="sum")
        return total, predicted.sum().to(total)

    def scores(self, learner: Learner, batch: Examples) -> Tensor:
        """Return the sum of token losses, the number of tokens, and the number of bytes."""
        total, tokens = self.loss(learner, batch)
        return torch.stack([total.double(), tokens.double(), batch.inputs["num_bytes"].sum().double()])

    def summarise(self, scores: Tensor) -> dict[str, Any]:
        """Return bits_per_byte and the mean loss of a token in nats."""
        nats, tokens, num_bytes = scores.tolist()
        return {"bits_per_byte": nats / math.log(2) / num_bytes, "loss": nats / tokens}


def training_objective(name: str, examples: Examples, reweight_classes: bool) -> Objective:
    """Return the objective called `name` for training on these examples; ConfigError if there is none."""
    if name not in OBJECTIVES:
        raise ConfigError(f"model.objective={name!r} cannot be used: use one of {', '.join(OBJECTIVES)}")
    if name == "causal_lm":
        return CausalLanguageModelling()
    return Classification(class_weights(_labels(examples)) if reweight_classes else None)


def class_weights(labels: Tensor) -> Tensor:
    """Return w[c] = n / (C_present n_c), and 0 for absent classes: float32, up to the largest label.

    Every class present then has the same total weight, n / C_present, and all examples together weigh n.
    """
    counts = torch.bincount(labels).float()
    present = counts > 0
    weights = len(labels) / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, 0)


def not_a_number(scores: Mapping[str, Any]) -> str | None:
    """Return name and value of the first score that is NaN or infinite; None if all are numbers."""
    odd = (f"{name} {value}" for name, value in scores.items() if isinstance(value, float) and not math.isfinite(value))
    return next(odd, None)


@torch.no_grad()
def evaluate(
    learner: Learner,
    examples: Examples,
    objective: Objective,
    batch_size: int = 256,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Score a learner on held-out examples, in evaluation mode; workers share the examples and get the same scores.

    Raises:
        InputError: no examples, or some that do not fit the learner.
    """
    workers = workers or OneWorker()
    if not len(examples):
        raise InputError("there are no held-out examples to score: give at least one")
    objective.check(learner, examples)
    device = next(learner.parameters()).device
    training = learner.training
    learner.eval()
    # Every worker scores whole batches, and empty-handed ones score the first batch times zero, for its shape.
    starts = range(0, len(examples), batch_size)
    own = list(starts)[workers.rank :: workers.size]
    batches = (examples.take(slice(start, start + batch_size)).to(device) for start in own or starts[:1])
    total = torch.stack([objective.scores(learner, batch) for batch in batches]).sum(dim=0) * bool(own)
    workers.sum_([total])
    learner.train(training)
    return objective.summarise(total.cpu())


def _labels(examples: Examples) -> Tensor:
    if examples.labels is None:
        raise InputError("the examples have no labels: the objective classification needs one class number a row")
    return examples.labels


@torch.no_grad()
def _num_classes(learner: Learner) -> int:
    device = next(learner.parameters()).device
    return learner.outputs(torch.zeros(1, learner.feature_dim, device=device)).shape[1]
