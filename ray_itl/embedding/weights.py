"""The weights of a model by digest, so that every process has the same."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping

import torch
from torch import Tensor, nn

from ray_itl.errors import InputError


def weights_digest(model: nn.Module, without: Container[str] = ()) -> str:
    """Return a SHA-256 of all parameters and buffers that a model's state holds, with their names, but for some."""
    return tensors_digest({name: tensor for name, tensor in model.state_dict().items() if name not in without})


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of tensors with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_bytes(model: nn.Module) -> int:
    """Return the memory that they take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def check_weights(found: str, expected: str, model: str, checkpoint: str | None = None) -> None:
    """Raise InputError where a process has loaded other weights than the one that began."""
    if found != expected:
        named = f"model {model!r}" + (f" (checkpoint {checkpoint!r})" if checkpoint else "")
        raise InputError(
            f"{named} has other weights here than where this work began: keep models and checkpoints unchanged and "
            "readable on every machine, then try again"
        )
