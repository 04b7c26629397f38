"""Fine-tuning a fresh copy of a language model for one test, a step on each pick in turn, and scoring the test."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from benchmarks.value.settings import TuningOptions
from ray_itl.training.examples import Examples
from ray_itl.training.loop import make_optimiser, trained_parameters
from ray_itl.training.models.language_model import CausalLm
from ray_itl.training.objectives import CausalLanguageModelling
from ray_itl.training.seeds import derive_seed, drawing_from
from ray_itl.training.settings import TrainingSettings


@dataclass(frozen=True)
class Curve:
    """How a test is scored as a model is fine-tuned for it."""

    bits: dict[int, float]
    """Bits per byte after so many steps; 0: untrained."""
    seconds: float
    """Of the steps and the scores, whether or not another rule's began with the same."""


@dataclass
class _Branch:
    """Rules whose picks have been the same so far, and how far they are."""

    picks: Mapping[str, Sequence[str]]
    place: int
    bits: dict[int, float]
    seconds: float


class Tuner:
    """A language model with adapters of low rank, which is brought back to its beginning for every test.

    Frozen weights are in bfloat16 while it is trained, where the options say so: a product then takes half as long.
    The adapters, and all weights while a test is scored, are in float32, so that scores are not rounded.
    """

    def __init__(self, options: TuningOptions, folder: str, seed: int) -> None:
        """Read the model of a folder; its adapters are a function of the seed.

        Raises:
            ConfigError: a library is missing, or the model cannot be read.
        """
        self._options = options
        self._scored = _read(options, folder, "float32", seed)
        self._trained = self._scored
        if options.precision != "float32":
            self._trained = _read(options, folder, options.precision, seed)
        self._weights = trained_parameters(self._trained)
        # Of one storage, so that a step on the one is a step on the other.
        for own, shared in zip(trained_parameters(self._scored), self._weights, strict=True):
            own.data = shared.data
        self._begun = [weight.detach().clone() for weight in self._weights]
        self._objective = CausalLanguageModelling()
        self._encoded: dict[str, Examples] = {}

    def curves(self, test: str, picks: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Curve]]:
        """Yield each rule with its curve, as it is ready.

        What picks have in common at their beginning is trained on once; the curve is the same, bit for bit, as if the
        rule were alone.

        Args:
            test: The held-out text.
            picks: Rule -> texts, in order.
        """
        self._encoded = {}
        self._optimiser = make_optimiser(
            self._weights, TrainingSettings(steps=1, learning_rate=self._options.learning_rate)
        )
        self._restore((self._begun, deepcopy(self._optimiser.state_dict())))
        began = time.perf_counter()
        bits = {0: self._score(test)}
        yield from self._walk(test, _Branch(picks, 0, bits, time.perf_counter() - began))

    def _walk(self, test: str, branch: _Branch) -> Iterator[tuple[str, Curve]]:
        while True:
            following: dict[str, dict[str, Sequence[str]]] = {}
            for rule, texts in branch.picks.items():
                if branch.place == len(texts):
                    yield rule, Curve(dict(branch.bits), branch.seconds)
                else:
                    following.setdefault(texts[branch.place], {})[rule] = texts
            if len(following) != 1:
                break
            ((text, picks),) = following.items()
            branch = self._stepped(test, branch, text, picks)
        if not following:
            return
        saved = self._saved()
        for text, picks in following.items():
            self._restore(saved)
            yield from self._walk(test, self._stepped(test, branch, text, picks))

    def _stepped(self, test: str, branch: _Branch, text: str, picks: Mapping[str, Sequence[str]]) -> _Branch:
        began, place = time.perf_counter(), branch.place + 1
        self._step(text)
        scored = {place: self._score(test)} if place in self._options.scored_after else {}
        return _Branch(picks, place, {**branch.bits, **scored}, branch.seconds + time.perf_counter() - began)

    def _step(self, text: str) -> None:
        self._optimiser.zero_grad()
        loss, count = self._objective.loss(self._trained, self._example(text))
        (loss / count).backward()
        self._optimiser.step()

    @torch.no_grad()
    def _score(self, text: str) -> float:
        nats, _, num_bytes = self._objective.scores(self._scored, self._example(text)).tolist()
        return nats / math.log(2) / num_bytes

    def _example(self, text: str) -> Examples:
        if text not in self._encoded:
            self._encoded[text] = Examples(self._scored.encode(pa.array([text])))
        return self._encoded[text]

    def _saved(self) -> tuple[list[Tensor], dict[str, Any]]:
        return [weight.detach().clone() for weight in self._weights], deepcopy(self._optimiser.state_dict())

    @torch.no_grad()
    def _restore(self, saved: tuple[list[Tensor], dict[str, Any]]) -> None:
        for weight, value in zip(self._weights, saved[0], strict=True):
            weight.copy_(value)
        self._optimiser.load_state_dict(deepcopy(saved[1]))


def _read(options: TuningOptions, folder: str, dtype: str, seed: int) -> CausalLm:
    # peft draws the adapters, and keeps them in float32 whatever the type of the weights below.
    with drawing_from(derive_seed(seed, "adapters")):
        model = CausalLm(
            folder,
            max_tokens=options.max_tokens,
            lora_rank=options.lora_rank,
            lora_modules=options.lora_modules,
            start_token=options.start_token,
            dtype=dtype,
        )
    return model.eval()  # there is no dropout: nothing differs in training
