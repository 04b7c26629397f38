"""Embeddings by what a text would teach: gradients of its own loss with respect to a model's adapters, sketched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from ray_itl.embedding.batches import by_length
from ray_itl.embedding.gradient_sketch import GradientSketch
from ray_itl.embedding.weights import tensors_digest, weights_digest
from ray_itl.errors import InputError
from ray_itl.training.adapter_gradients import adapter_gradients, adapter_layers
from ray_itl.training.checkpoint import load_checkpoint
from ray_itl.training.learner import Inputs, Learner, num_rows, take
from ray_itl.training.second_moments import adam_scales, read_second_moments

BATCH_TOKENS = {"cpu": 1024, "cuda": 4096}
"""Of one pass, padding included. With a vocabulary of 50,000, 1,024 tokens have logits of 200 MB, of which there are
about five while their gradient is computed."""


@dataclass(frozen=True)
class Snapshot:
    """Adapters as they were at some moment of a training."""

    weights: dict[str, Tensor]
    """Of `adapter_layers`, by name."""
    share: float
    """How much inner products of gradients there count: the learning rate then, or any multiple of it."""
    scales: dict[str, Tensor] | None = None
    """What each number of a gradient is multiplied by, of `adam_scales`, by the same names; None: by 1."""


def read_snapshots(learner: Learner, moments: Sequence[Mapping[str, Any]]) -> tuple[list[Snapshot], str]:
    """Return the adapters of a model at some moments, and a digest of all weights.

    Args:
        learner: The model, which is left as at the last moment.
        moments: Checkpoints of it, as of `model.checkpoints`. Empty: the moment is now.

    Raises:
        ConfigError: the model has no adapters (see `adapter_layers`).
        InputError: a checkpoint that is missing, damaged, or of another model, or differs in more than its adapters.
    """
    layers = adapter_layers(learner)
    if not moments:
        return [_snapshot(layers, 1.0)], weights_digest(learner)
    found, digests, frozen = [], [], ""
    for moment in moments:
        load_checkpoint(learner, moment["path"])
        share = float(moment.get("learning_rate", 1.0))
        scales, own = _scales(layers, moment.get("second_moments"))
        found.append(_snapshot(layers, share, scales))
        digests.append(f"{weights_digest(learner)} {share!r}{own}")
        others = weights_digest(learner, without=[f"{name}.weight" for name in layers])
        if others != (frozen or others):
            raise InputError(
                f"model.checkpoints: {moment['path']!r} differs from {moments[0]['path']!r} in more than its adapters: "
                "name checkpoints of one training"
            )
        frozen = others
    return found, sha256("\n".join(digests).encode()).hexdigest()


def _snapshot(layers: Mapping[str, nn.Linear], share: float, scales: dict[str, Tensor] | None = None) -> Snapshot:
    return Snapshot({name: layer.weight.detach().clone() for name, layer in layers.items()}, share, scales)


def _scales(layers: Mapping[str, nn.Linear], path: str | None) -> tuple[dict[str, Tensor] | None, str]:
    """Return the scales that a file of second moments gives, and what tells them from others."""
    if path is None:
        return None, ""
    moments = read_second_moments(path, {f"{name}.weight": layer.weight for name, layer in layers.items()})
    scales = {name: adam_scales(moments[f"{name}.weight"]).to(layer.weight.device) for name, layer in layers.items()}
    return scales, f" {tensors_digest(moments)}"


class LoraGradients:
    """Sketches of gradients at one or several moments of a training.

    With g_k the gradient at moment k, the embedding is the sketch P of all sqrt(c_k) g_k as one long vector, c_k being
    shares that add up to 1, so that

        E <x, x'> = sum_k c_k <g_k, g_k'>

    which for gradients of norm 1 and learning rates as shares is LESS's influence, with the gradients themselves in
    place of Adam's steps. With the second moments v_k of Adam (see `second_moments`) g_k is V_k^(-1/4) g_k throughout,
    V_k the diagonal matrix of v_k: then <g_k, g_k'> is what a step of Adam without momentum on the one row changes in
    the loss of the other. The error is that of one vector (see `GradientSketch`), however many moments there are.
    """

    def __init__(
        self,
        learner: Learner,
        snapshots: Sequence[Snapshot],
        dim: int,
        seed: int,
        unit_norm: bool,
        batch_tokens: int | None,
    ) -> None:
        """Take a model in evaluation mode, on its device, of which everything but its adapters is the same throughout.

        Args:
            learner: The model; from now on its adapters alone require gradients.
            snapshots: At least one.
            dim: p, numbers of an embedding.
            seed: Of the sketch.
            unit_norm: Divide each g_k by its norm.
            batch_tokens: Tokens of a pass, padding included. None: `BATCH_TOKENS`.
        """
        self._learner, self._unit_norm = learner, unit_norm
        self._layers = adapter_layers(learner.requires_grad_(False))
        for layer in self._layers.values():
            layer.weight.requires_grad_(True)
        self._device = next(iter(self._layers.values())).weight.device
        self._tokens = batch_tokens or BATCH_TOKENS["cpu" if self._device.type == "cpu" else "cuda"]
        total = sum(each.share for each in snapshots)
        self._snapshots = [(each.weights, each.scales, (each.share / total) ** 0.5) for each in snapshots]
        sizes = {
            _place(k, name): layer.weight.numel() for k in range(len(snapshots)) for name, layer in self._layers.items()
        }
        self._sketch = GradientSketch(sizes, dim, seed).to(self._device)

    def __call__(self, inputs: Inputs) -> Tensor:
        """Return n x p float32 embeddings of encoded texts, each of which has a token that is predicted.

        Texts of like length go together, whatever their order: O(passes of the model forth and back, once for each
        moment).
        """
        # One after another, as the way back is: more of them would only be smaller ones.
        batches = by_length(inputs["attention_mask"].sum(dim=1).cpu().numpy(), self._tokens, least_batches=1)
        rows = torch.zeros(num_rows(inputs), self._sketch.dim, device=self._device)
        for k, (weights, scales, factor) in enumerate(self._snapshots):
            self._restore(weights)
            for members in batches:
                own = torch.from_numpy(members).to(self._device)
                rows[own] += factor * self._at(k, scales, take(inputs, own))
        return rows

    def _at(self, k: int, scales: Mapping[str, Tensor] | None, inputs: Inputs) -> Tensor:
        """Return the sketches of the gradients at one moment, in one pass."""
        count = num_rows(inputs)
        sketches = torch.zeros(count, self._sketch.dim, device=self._device)
        squares = torch.zeros(count, device=self._device)

        def add(name: str, gradients: Tensor) -> None:
            numbers = (gradients if scales is None else gradients * scales[name]).flatten(1).float()
            squares.add_(numbers.square().sum(dim=1))
            self._sketch.add(sketches, _place(k, name), numbers)

        adapter_gradients(self._learner, self._layers, inputs, add)
        if self._unit_norm:
            sketches /= squares.sqrt().where(squares > 0, 1.0)[:, None]
        return sketches

    @torch.no_grad()
    def _restore(self, weights: dict[str, Tensor]) -> None:
        for name, layer in self._layers.items():
            layer.weight.copy_(weights[name])


def _place(k: int, name: str) -> str:
    """Return the name of a matrix at moment k, in the long vector."""
    return f"{k}/{name}"
