"""Whether a model may compute in bfloat16: where the processor does it natively, and little is lost by it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ray_itl.errors import ConfigError

LARGEST = 1e-3
"""Largest cosine distance at which an embedding in fewer digits passes for that in float32."""


class Difference(NamedTuple):
    """How far embeddings in fewer digits are from those in float32, on a sample."""

    rows: int
    largest: float
    """The largest distance, 1 - cos."""

    @property
    def is_small(self) -> bool:
        """Whether they pass for the same."""
        return self.largest <= LARGEST  # False for NaN


def difference(exact: np.ndarray, other: np.ndarray) -> Difference:
    """Compare two n x D matrices row by row; rows of zeros that are zeros in both are equal."""
    a, b = exact.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distances = np.where(same, 0.0, 1.0 - (a * b).sum(axis=1) / norms)
    return Difference(len(a), float(max(distances.max(initial=0.0), 0.0)) if np.isfinite(distances).all() else np.inf)


def has_bfloat16(device: str) -> bool:
    """Whether the device of this process multiplies in bfloat16 by instructions of its own."""
    if device == "cpu":
        told = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.9 tells
        return bool(told.get("avx512_bf16") or told.get("amx_tile") or told.get("amx_bf16") or told.get("bf16"))
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def device_here(device: str) -> str:
    """Return where a model runs in this process: "cpu" or "cuda".

    Args:
        device: "cpu", "cuda", or "auto": the GPU where there is one.

    Raises:
        ConfigError: it is to be a GPU and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    if device != "cpu" and not has_gpu:
        raise ConfigError(
            "the model is to run on a GPU (cluster.gpus_per_worker > 0), but the process that embeds has none that "
            "torch can use: set cluster.gpus_per_worker=0, or embed on a cluster with GPUs"
        )
    return device
