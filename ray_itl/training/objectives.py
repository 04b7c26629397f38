"""What training minimises and what held-out examples are scored by: classification and causal language modelling.

Losses and scores are sums with their weights, never means, so that any split of a batch over workers adds up to the
same result.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.examples import Examples
from ray_itl.training.inputs import ANSWERS, predicted_tokens, trim_padding, without_predictions
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.workers import OneWorker, Workers

OBJECTIVES = ("classification", "causal_lm")
CONFUSION = "confusion"
"""Of the scores of a classifier, the one that is no number (see `Classification.summarise`)."""
_MOST_CONFUSED = 1000


class Objective(ABC):
    """A loss and the scores that go with it."""

    enough_to_hold_back: int
    """From so many examples on some may be kept out of training, to see by them when to stop."""
    share_held_back: float
    """How many of them."""

    @abstractmethod
    def check(self, learner: Learner, examples: Examples) -> None:
        """Raise InputError if the examples cannot be trained on or scored by this learner."""

    @abstractmethod
    def loss(self, learner: Learner, batch: Examples) -> tuple[Tensor, Tensor]:
        """Return two scalars, summed over a batch: the loss (with its graph) and the weight it is to be divided by."""

    @abstractmethod
    def scores(self, learner: Learner, batch: Examples) -> Tensor:
        """Return a float64 tensor of sums over a batch, for `summarise`."""

    @abstractmethod
    def summarise(self, scores: Tensor) -> dict[str, Any]:
        """Return named scores from the sum of `scores` over all examples."""


class Classification(Objective):
    """Cross-entropy of class labels, each example weighted by its class: sum_i w[y_i] ce_i / sum_i w[y_i].

    `scores` holds C x C counts of the examples of each class that are taken for each, and below them a row that begins
    with the sum of log losses (natural logarithm, without class weights). Of more than 1,000 classes it holds three
    rows: right answers and examples, by class, and that.
    """

    # Measured on digits: of fewer labels, each that is held back costs more than stopping in time is worth.
    enough_to_hold_back = 200
    share_held_back = 0.1

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
        """Return counts and log losses: (C + 1) x C numbers, or 3 x C."""
        labels = _labels(batch)
        logits = learner(batch.inputs).double()
        said, num_classes = logits.argmax(dim=1), logits.shape[1]
        if num_classes <= _MOST_CONFUSED:
            counts = torch.bincount(labels * num_classes + said, minlength=num_classes**2).reshape(num_classes, -1)
        else:
            counts = torch.stack(
                [torch.bincount(rows, minlength=num_classes) for rows in (labels[labels == said], labels)]
            )
        losses = logits.new_zeros(1, num_classes)
        losses[0, 0] = functional.cross_entropy(logits, labels, reduction="sum")
        return torch.cat([counts.double(), losses])

    def summarise(self, scores: Tensor) -> dict[str, Any]:
        """Return accuracy, balanced_accuracy (mean over classes present), log_loss, class_accuracy and confusion.

        The last, of up to 1,000 classes, lists [class, class that it is taken for, examples] where there are examples.
        """
        counts, is_whole = scores[:-1], scores.shape[1] <= _MOST_CONFUSED
        right, of_class = (counts.diagonal(), counts.sum(dim=1)) if is_whole else counts
        present = of_class.nonzero()[:, 0].tolist()
        by_class = {str(c): float(right[c] / of_class[c]) for c in present}
        taken = [[true, said, int(counts[true, said])] for true, said in counts.nonzero().tolist()]
        return {
            "accuracy": float(right.sum() / of_class.sum()),
            "balanced_accuracy": math.fsum(by_class.values()) / len(by_class),
            "log_loss": float(scores[-1, 0] / of_class.sum()),
            "class_accuracy": by_class,
            **({CONFUSION: taken} if is_whole else {}),
        }


class CausalLanguageModelling(Objective):
    """Cross-entropy of every token given those before it, of conversations of those of the answers; no padding.

    The first token of a text (the start token, where the learner's `encode` puts one) is given, not predicted.
    `scores` holds the sum of token losses in nats, the number of tokens predicted, and the bytes of their texts.
    """

    # A text has many tokens to go by, and a pretrained model learns few texts by heart within some dozens of steps.
    enough_to_hold_back = 10
    share_held_back = 0.2

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
        total, predicted = token_losses(learner, batch.inputs, "sum")
        return total, predicted.sum().to(total)

    def scores(self, learner: Learner, batch: Examples) -> Tensor:
        """Return the sum of token losses, the number of tokens, and the number of bytes."""
        total, tokens = self.loss(learner, batch)
        return torch.stack([total.double(), tokens.double(), batch.inputs["num_bytes"].sum().double()])

    def summarise(self, scores: Tensor) -> dict[str, Any]:
        """Return bits_per_byte and the mean loss of a token in nats."""
        nats, tokens, num_bytes = scores.tolist()
        return {"bits_per_byte": nats / math.log(2) / num_bytes, "loss": nats / tokens}


def token_losses(learner: Learner, inputs: Inputs, reduction: str = "none") -> tuple[Tensor, Tensor]:
    """Return a language model's loss of every token that is predicted, and which these are.

    Args:
        learner: The model.
        inputs: Token ids, mask, and which tokens are answers where not all are.
        reduction: "sum" for the sum of the losses instead.

    Returns:
        k losses, row by row, and n x (T - 1) bool of which k are true (see `predicted_tokens`).
    """
    trimmed, predicted = trim_padding(inputs), predicted_tokens(inputs)
    logits = learner(trimmed)[:, :-1][predicted]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(logits, trimmed["input_ids"][:, 1:][predicted], reduction=reduction), predicted


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
    return objective.summarise(_summed(objective.scores, learner, examples, batch_size, workers))


@torch.no_grad()
def mean_loss(learner: Learner, examples: Examples, objective: Objective, batch_size: int, workers: Workers) -> float:
    """Return the loss of at least one example, as training weighs it, in evaluation mode; the same on all workers."""

    def sums(learner: Learner, batch: Examples) -> Tensor:
        return torch.stack(objective.loss(learner, batch)).double()

    loss, weight = _summed(sums, learner, examples, batch_size, workers).tolist()
    return loss / weight


def _summed(
    measure: Callable[[Learner, Examples], Tensor],
    learner: Learner,
    examples: Examples,
    batch_size: int,
    workers: Workers,
) -> Tensor:
    """Return the sum of a vector of sums over batches, which workers share; the learner's mode is as before."""
    device = next(learner.parameters()).device
    training = learner.training
    learner.eval()
    # Every worker scores whole batches, and empty-handed ones score the first batch times zero, for its shape.
    starts = range(0, len(examples), batch_size)
    own = list(starts)[workers.rank :: workers.size]
    batches = (examples.take(slice(start, start + batch_size)).to(device) for start in own or starts[:1])
    total = reduce(torch.add, (measure(learner, batch) for batch in batches)) * bool(own)
    workers.sum_([total])
    learner.train(training)
    return total.cpu()


def _labels(examples: Examples) -> Tensor:
    if examples.labels is None:
        raise InputError("the examples have no labels: the objective classification needs one class number a row")
    return examples.labels


@torch.no_grad()
def _num_classes(learner: Learner) -> int:
    device = next(learner.parameters()).device
    return learner.outputs(torch.zeros(1, learner.feature_dim, device=device)).shape[1]
