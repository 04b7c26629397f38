"""What encoders around a torch model have in common: weights by digest, precision, device, batches on cores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ray_itl.core.features import UnitNorm
from ray_itl.embedding.batches import on_cores
from ray_itl.embedding.encoder import Encoder, OnRows, unheard
from ray_itl.embedding.precision import Difference, device_here, difference, has_bfloat16
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.embedding.weights import check_weights, weights_bytes, weights_digest

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_SAMPLE_ROWS = 64


class Batch(NamedTuple):
    """Rows that a model is given at a time."""

    rows: np.ndarray
    """Their numbers in the window."""
    inputs: Mapping[str, Any]
    """What the model reads: tensors with one row each, and what else belongs to them."""


class TorchEncoder(Encoder):
    """An encoder whose model is a module of torch, run in float32 or, where that is quicker and near enough, bfloat16.

    Subclasses read the model, prepare its inputs and run it; pickled, they keep its digest alone.
    """

    has_precisions: bool = True
    """Whether the model may run in anything but float32."""

    def __init__(self, name: str, how: EmbeddingSettings, device: str, sample: pa.Array | None) -> None:
        """Load the model once, to see that it can be had, what it gives, and in which precision it runs.

        Args:
            name: As the user wrote it.
            how: Precision, batches and norm.
            device: Where the model runs in the process that embeds: "cpu", "cuda", or "auto".
            sample: Some rows, on which precisions are compared; None or empty: on those of `sample_column`.

        Raises:
            ConfigError: options that the model has no use for.
            InputError: the model cannot be had.
        """
        self.name, self.how, self.device = name, how, device
        self.precision, self.difference = "float32", None
        model = self.read()
        self.weights_digest, self.weights_bytes = weights_digest(model), weights_bytes(model)
        self._ready: nn.Module | None = model.to(_device_or_cpu(device))
        rows = self._sound(sample)
        exact = self.embed(self.prepare(rows))
        self.dim = exact.shape[1]
        self._choose_precision(rows, exact)
        if device == "cuda" and not torch.cuda.is_available():  # workers have what this process lacks
            self._ready = None

    @abstractmethod
    def read(self) -> nn.Module:
        """Return the model as its files have it, in float32, on the CPU, in evaluation mode, frozen."""

    @abstractmethod
    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return the n x D float32 embeddings of one batch, on the model's device."""

    @abstractmethod
    def lower(self, model: nn.Module, dtype: torch.dtype) -> nn.Module:
        """Return the model made to compute in fewer digits, in place."""

    @abstractmethod
    def sample_column(self) -> pa.Array:
        """Return a few rows such as the model is made for."""

    def identity(self) -> dict[str, str]:
        """Return name -> value of everything that decides an embedding, but where it is computed."""
        return {
            "weights of the model": self.weights_digest,
            "embedding.precision": self.precision,
            "embedding.unit_norm": repr(self.how.unit_norm),
            "embedding.batch_size": repr(self.how.batch_size),
        }

    def details(self) -> dict[str, Any]:
        """Return the precision, and how far it is from float32."""
        found = self.difference
        apart = {} if found is None else {"largest_cosine_distance": found.largest, "rows_compared": found.rows}
        return {"precision": self.precision, **apart}

    def embed(self, prepared: list[Batch], on_rows: OnRows = unheard) -> np.ndarray:
        """Return n x D float32 embeddings of the rows of some batches, in order."""
        model = self.model()
        found: np.ndarray | None = None
        for batch, embeddings in zip(prepared, self._run_all(model, prepared), strict=True):
            if found is None:
                found = np.empty((sum(len(each.rows) for each in prepared), embeddings.shape[1]), dtype=np.float32)
            found[batch.rows] = embeddings
            on_rows(len(batch.rows))
        return np.empty((0, self.dim), dtype=np.float32) if found is None else found

    def model(self) -> Any:
        """Return the model, ready to run; loads it where this process has not yet."""
        if self._ready is None:
            model = self.read()
            check_weights(weights_digest(model), self.weights_digest, self.name)
            model = model.to(device_here(self.device))
            self._ready = model if self.precision == "float32" else self.lower(model, _DTYPES[self.precision])
        return self._ready

    def _run_all(self, model: nn.Module, batches: list[Batch]) -> Iterator[np.ndarray]:
        def run(batch: Batch) -> np.ndarray:
            inputs = {name: _on(value, device) for name, value in batch.inputs.items()}
            with torch.inference_mode():
                rows = self.run(model, inputs)
                rows = UnitNorm()(rows) if self.how.unit_norm else rows
                return np.ascontiguousarray(rows.cpu().numpy())

        device = _device_or_cpu(self.device)
        return map(run, batches) if device != "cpu" else on_cores(run, batches, torch.get_num_threads())

    def _sound(self, sample: pa.Array | None) -> pa.Array:
        """Return a few rows of the sample that the model can read, or of its own."""
        rows = self.sample_column() if sample is None else sample.slice(0, min(_SAMPLE_ROWS, self.window))
        bad = self.undecodable(rows)
        good = [row for row in range(len(rows)) if row not in bad]
        return rows.take(pa.array(good, pa.int64())) if good else self.sample_column()

    def _choose_precision(self, rows: pa.Array, exact: np.ndarray) -> None:
        asked, device = self.how.precision, _device_or_cpu(self.device)
        if not self.has_precisions or asked == "float32" or (asked == "auto" and not has_bfloat16(device)):
            return
        self.precision = "bfloat16"
        self._ready = self.lower(self.model(), _DTYPES["bfloat16"])
        self.difference = difference(exact, self.embed(self.prepare(rows)))
        if asked == "auto" and not self.difference.is_small:
            self.precision, self._ready = "float32", None
        self.notes = (*self.notes, _told(self.difference, self.precision))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}


def _told(found: Difference, used: str) -> str:
    apart = f"by at most {found.largest:.2g} in cosine distance ({found.rows:,} rows compared)"
    if used == "float32":
        return f"computing in float32, as embeddings in bfloat16 differ from those {apart}"
    worth = "" if found.is_small else ", which is much; embedding.precision=float32 is exact"
    return f"computing in {used}, whose embeddings differ from float32's {apart}{worth}"


def _device_or_cpu(device: str) -> str:
    """Return where the model runs here, though workers alone may have the GPU that is asked for."""
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _on(value: Any, device: str) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
