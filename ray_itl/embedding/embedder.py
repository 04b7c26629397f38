"""From raw rows to embeddings: a model, its weights, and which of its numbers make the embedding.

Gradients of the last layer are Kronecker products; they are projected at random without ever being formed. Of those of
adapters see `lora_gradients`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ray_itl.core.features import UnitNorm
from ray_itl.embedding.encoder import Encoder, OnRows, unheard
from ray_itl.embedding.lora_gradients import LoraGradients, Snapshot, read_snapshots
from ray_itl.embedding.precision import device_here
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.embedding.weights import check_weights, weights_bytes, weights_digest
from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.schema import which_row
from ray_itl.training.inputs import ANSWERS, without_predictions
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.registry import ModelSpec, load
from ray_itl.training.seeds import derive_seed


class KroneckerProjection:
    """A random linear map from R^(C D) to R^p that keeps inner products of a x h on average.

    Entry k of the projection of a x h is (r1_k . a)(r2_k . h) / sqrt(p), with rows r1_k in R^C and r2_k in R^D of
    independent entries of mean 0 and variance 1. It is the product of a x h with the row r1_k x r2_k, and
    E[<P(a x h), P(b x g)>] = <a, b><h, g>: an average of p independent terms, so the error falls as 1/sqrt(p).
    Entries are standard normal, or signs (of smaller variance). O(p (C + D)) a row, where the product itself has C D
    entries; p (C + D) floats of memory (tensor random projection; Sun, Guo, Tropp and Udell, 2018).
    """

    def __init__(self, num_classes: int, feature_dim: int, dim: int, kind: str, seed: int) -> None:
        """Draw the rows, which are a function of the arguments alone.

        Args:
            num_classes: C.
            feature_dim: D.
            dim: p.
            kind: "gaussian" or "sign".
            seed: Any seed.
        """
        self.dim = dim
        self._left = _draw(dim, num_classes, kind, derive_seed(seed, "projection", "classes"))
        self._right = _draw(dim, feature_dim, kind, derive_seed(seed, "projection", "features"))

    def to(self, device: torch.device | str) -> KroneckerProjection:
        """Move the rows to a device, in place."""
        self._left, self._right = self._left.to(device), self._right.to(device)
        return self

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """Project n rows of factors, left n x C and right n x D float32; returns n x p."""
        return (left @ self._left.mT) * (right @ self._right.mT) * self.dim**-0.5


def _draw(num_rows: int, dim: int, kind: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "sign":
        return torch.randint(0, 2, (num_rows, dim), generator=generator).float() * 2 - 1
    return torch.randn(num_rows, dim, generator=generator)


_MAX_DIM = 1 << 20
_UNUSED = ("precision", "batch_tokens")
"""Options of encoders by other libraries; the second is one of gradients of adapters, too."""
_Rows = Callable[[Inputs], Tensor]
"""Makes the n x p embeddings of n encoded rows."""


class Embedder(Encoder):
    """The encoder of a model that can be trained: its features or gradients, in float32, B rows at a time."""

    prepares_beside = False  # a model of the user's need not allow for threads

    def __init__(
        self,
        spec: ModelSpec,
        checkpoint: str | None = None,
        seed: int = 0,
        settings: EmbeddingSettings | None = None,
        device: str = "cpu",
        moments: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Load the model once, to see that it can be had and what it gives.

        Args:
            spec: The model.
            checkpoint: Its weights, a file that every process can read; None for those it is built with.
            seed: Of the weights that no checkpoint gives.
            settings: What of the model is the embedding.
            device: Where the model runs in the process that embeds: "cpu", "cuda", or "auto" (the GPU where that
                process has one, else the CPU).
            moments: In place of one checkpoint several, as of `model.checkpoints`; for gradients of adapters.

        Raises:
            ConfigError: a model that cannot be built, or has no such embedding.
            InputError: a checkpoint that is missing, damaged, or of another model.
        """
        self.spec, self.checkpoint, self.seed, self.device = spec, checkpoint, seed, device
        self.settings = settings or EmbeddingSettings()
        self.moments = tuple(moments)
        self.window = self.settings.batch_size
        learner, snapshots, self.weights_digest = self._load()
        self.weights_bytes = weights_bytes(learner)
        self.feature_dim = learner.feature_dim
        self.num_classes = _num_classes(learner, spec) if self.settings.kind == "gradient" else 0
        self.dim = self._check_dim()
        self._read: tuple[Learner, list[Snapshot]] | None = (learner, snapshots)
        self._ready: tuple[Learner, _Rows] | None = None

    def identity(self) -> dict[str, str]:
        """Return name -> value of everything that decides an embedding, but where it is computed."""
        unused = _UNUSED[: 1 if self._is_of_adapters else None]
        return {
            "model.name": self.spec.name,
            "model.options": json.dumps(self.spec.options, sort_keys=True),
            "weights of the model": self.weights_digest,
            **{f"embedding.{name}": repr(value) for name, value in asdict(self.settings).items() if name not in unused},
        }

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Return what users should know of how rows of this type are read."""
        return (self._read or self._loaded())[0].remarks(kind)

    def prepare(self, column: pa.Array) -> Inputs:
        """Return raw rows as the model's inputs (see `Learner.encode`)."""
        inputs = self._loaded()[0].encode(column)
        if self._is_of_adapters:
            _check_predictions(inputs)
        return inputs

    def embed(self, prepared: Inputs, on_rows: OnRows = unheard) -> np.ndarray:
        """Return the n x dim float32 embeddings of n rows, computed in float32 as one batch.

        A row's embedding depends on the others of its batch by rounding alone (kernels are chosen by the shape of a
        batch), and not at all if the batch holds the same rows in the same places.
        """
        _, make_rows = self._loaded()
        device = device_here(self.device)
        inputs = {name: values.to(device) for name, values in prepared.items()}
        # What rounding there is must not depend on what the GPU did before, nor be that of 10-bit mantissas.
        with (
            torch.inference_mode(not self._is_of_adapters),
            torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False),
        ):
            rows = make_rows(inputs)
            rows = UnitNorm()(rows) if self.settings.unit_norm else rows
        found = np.ascontiguousarray(rows.cpu().numpy())
        on_rows(len(found))
        return found

    @property
    def _is_of_adapters(self) -> bool:
        return self.settings.kind == "lora_gradient"

    def _load(self) -> tuple[Learner, list[Snapshot], str]:
        """Return the model, its adapters at all moments where their gradients are asked for, and a digest of all."""
        learner = load(self.spec, self.checkpoint, self.seed)
        if not self._is_of_adapters:
            return learner, [], weights_digest(learner)
        return learner, *read_snapshots(learner, self.moments)

    def _loaded(self) -> tuple[Learner, _Rows]:
        if self._ready is None:
            if self._read is None:
                learner, snapshots, digest = self._load()
                check_weights(digest, self.weights_digest, self.spec.name, self.checkpoint)
                self._read = learner, snapshots
            learner, snapshots = self._read
            learner = learner.eval().requires_grad_(False).to(device_here(self.device))
            self._ready = learner, self._maker(learner, snapshots)
        return self._ready

    def _maker(self, learner: Learner, snapshots: list[Snapshot]) -> _Rows:
        """Return what makes embeddings of encoded rows."""
        settings = self.settings
        if settings.kind == "features":
            return lambda inputs: learner.features(inputs).float()
        if self._is_of_adapters:
            seed, tokens = settings.projection_seed, settings.batch_tokens
            return LoraGradients(learner, snapshots, self.dim, seed, settings.unit_norm, tokens)
        make: Callable[[Tensor, Tensor], Tensor] = kronecker
        if settings.projection_dim is not None:
            make = KroneckerProjection(
                self.num_classes, self.feature_dim, self.dim, settings.projection, settings.projection_seed
            ).to(device_here(self.device))

        def gradients(inputs: Inputs) -> Tensor:
            features = learner.features(inputs).float()
            return make(hallucinated_residuals(learner.outputs(features).float()), features)

        return gradients

    def _check_dim(self) -> int:
        settings = self.settings
        if settings.kind == "features":
            return self.feature_dim
        if settings.projection_dim is not None:
            return settings.projection_dim
        dim = self.num_classes * self.feature_dim
        if dim > _MAX_DIM:
            raise ConfigError(
                f"embedding.kind=gradient has {self.num_classes} classes x {self.feature_dim} features = {dim:,} "
                "numbers a row: set embedding.projection_dim, for example to 1024"
            )
        return dim

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None, "_ready": None}


def _check_predictions(inputs: Inputs) -> None:
    """Raise InputError unless each row has a token that is predicted, and so a loss."""
    if not {"input_ids", "attention_mask"} <= inputs.keys():
        raise ConfigError(
            "embedding.kind=lora_gradient needs a causal language model, which reads tokens: set model.name=causal_lm"
        )
    if short := without_predictions(inputs):
        no_answer = "no answer begins within model.options.max_tokens"
        what = no_answer if ANSWERS in inputs else "the text has no token to predict"
        raise InputError(f"{which_row('', short[0])}: {what}; drop the row")


def hallucinated_residuals(logits: Tensor) -> Tensor:
    """Return softmax(z) - onehot(argmax z), n x C: the gradient of the cross-entropy with respect to the logits z.

    The label is the class that the model finds likeliest (BADGE; Ash et al., 2020).
    """
    residuals = logits.softmax(dim=1)
    top = logits.argmax(dim=1, keepdim=True)
    return residuals.scatter_add(1, top, -torch.ones_like(top, dtype=residuals.dtype))


def kronecker(left: Tensor, right: Tensor) -> Tensor:
    """Return the n x (C D) products a x h of rows, entry c D + d being a_c h_d."""
    return (left.unsqueeze(2) * right.unsqueeze(1)).flatten(1)


def _num_classes(learner: Learner, spec: ModelSpec) -> int:
    """Return C; ConfigError unless the output layer turns n x D features into n x C logits."""
    try:
        with torch.inference_mode():
            logits = learner.outputs(torch.zeros(1, learner.feature_dim))
    except (RuntimeError, NotImplementedError, IndexError, ValueError) as error:
        raise ConfigError(_no_gradient(spec, str(error))) from error
    if logits.ndim != 2:
        raise ConfigError(_no_gradient(spec, f"its outputs have {logits.ndim} dimensions"))
    return logits.shape[1]


def _no_gradient(spec: ModelSpec, why: str) -> str:
    return (
        f"embedding.kind=gradient needs a classifier, which model.name={spec.name!r} is not ({why}): use "
        "embedding.kind=features, or a model with an output layer"
    )
