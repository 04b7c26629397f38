"""Weights on disk as safetensors: written whole or not at all, and checked against the model on the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ray_itl.errors import InputError
from ray_itl.io.atomic import write_atomic

_HEADER = "ray_itl"
_FORMAT = "checkpoint/1"


def save_checkpoint(model: nn.Module, path: str | os.PathLike[str], trainable_only: bool = False) -> None:
    """Write a model's state; the same state gives the same bytes.

    Args:
        model: Any module, on any device.
        path: The file; its folder must exist.
        trainable_only: Write only the parameters that require a gradient (LoRA). Whoever loads the file must build
            the same frozen weights.

    Raises:
        RunDirectoryError: the file cannot be written.
    """
    tensors, aliases = _split_shared(_state(model, trainable_only))
    # One entry of metadata, because safetensors writes several in no fixed order.
    header = {"format": _FORMAT, "trainable_only": trainable_only, "aliases": aliases}
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, save(content, {_HEADER: json.dumps(header, sort_keys=True)}))


def load_checkpoint(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Give a model the weights of a checkpoint, in place; all of the file fits or the model is unchanged.

    Raises:
        InputError: the file is missing, damaged, not a checkpoint, or of another model; says which and the remedy.
    """
    metadata, tensors = read_safetensors(path, what="a checkpoint")
    trainable_only, tensors = _interpret(metadata, tensors, path)
    expected = _state(model, trainable_only)
    _check_fits(expected, tensors, path)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])


def second_moments_path(checkpoint: str | os.PathLike[str]) -> Path:
    """Return where Adam's second moments are that belong to a checkpoint, if they were kept."""
    return Path(checkpoint).with_suffix(f".second_moments{Path(checkpoint).suffix}")


def remove_checkpoint(path: str | os.PathLike[str]) -> None:
    """Remove a checkpoint with its second moments, as far as they are there."""
    for each in (Path(path), second_moments_path(path)):
        each.unlink(missing_ok=True)


def read_safetensors(path: str | os.PathLike[str], what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors of a safetensors file to the CPU; InputError if it is not one."""
    try:
        with safe_open(Path(path), framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{what} {str(path)!r} does not exist: correct the path, or make it again") from error
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{what} {str(path)!r} cannot be read ({error}): the file is damaged or not safetensors; make it again"
        ) from error


def _state(model: nn.Module, trainable_only: bool) -> dict[str, Tensor]:
    """Return name -> live tensor; tied weights under each of their names."""
    if not trainable_only:
        return dict(model.state_dict(keep_vars=True))
    return {name: value for name, value in model.named_parameters(remove_duplicate=False) if value.requires_grad}


def _split_shared(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the distinct tensors, and for every other name of one the name it is kept under."""
    kept: dict[str, Tensor] = {}
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first:
            aliases[name] = first[place]
        else:
            first[place] = name
            kept[name] = tensor
    return kept, aliases


def _interpret(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> tuple[bool, dict[str, Tensor]]:
    """Return whether only trained parameters are in a checkpoint, and its tensors under each of their names."""
    try:
        header = json.loads(metadata[_HEADER])
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
        aliases = {name: tensors[source] for name, source in header["aliases"].items()}
        return bool(header["trainable_only"]), {**tensors, **aliases}
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} is not a checkpoint of ray_itl ({error}): name a file that a training round wrote"
        ) from error


def _check_fits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Raise InputError that tells the first difference between what a model holds and what a file does."""
    missing, strange = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    problem = ""
    if missing or strange:
        problem = f"it lacks {missing[:3] or 'nothing'} and has {strange[:3] or 'nothing'} beyond what the model has"
    for name in () if problem else expected:
        have, want = found[name], expected[name]
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            problem = f"{name!r} is {tuple(have.shape)} {have.dtype}, the model's {tuple(want.shape)} {want.dtype}"
            break
    if problem:
        raise InputError(
            f"checkpoint {str(path)!r} is of another model: {problem}; use the model.name and model.options it was "
            "trained with, or another checkpoint"
        )
