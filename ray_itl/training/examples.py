"""Encoded examples with their labels, in memory and as one safetensors file that any worker can read."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from ray_itl.errors import InputError
from ray_itl.io.atomic import write_atomic
from ray_itl.training.checkpoint import read_safetensors
from ray_itl.training.learner import Inputs, num_rows, take

_INPUT = "input."
_LABELS = "labels"


@dataclass(frozen=True)
class Examples:
    """n examples; InputError if the columns differ in length."""

    inputs: Inputs
    """What the model's `encode` gave."""
    labels: Tensor | None = None
    """n class numbers from 0, int64; None for objectives that read none (causal language modelling)."""

    def __post_init__(self) -> None:
        """Check lengths and the labels' type."""
        lengths = {name: len(values) for name, values in self.inputs.items()}
        if self.labels is not None:
            lengths[_LABELS] = len(self.labels)
            if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
                raise InputError(
                    f"labels are {tuple(self.labels.shape)} {self.labels.dtype}; give one int64 class number a row"
                )
        if len(set(lengths.values())) != 1 or not self.inputs:
            raise InputError(f"examples need columns of one length, but have {lengths or 'no columns'}")

    def __len__(self) -> int:
        return num_rows(self.inputs)

    def take(self, rows: Tensor | slice) -> Examples:
        """Return some of the examples, by index or slice."""
        return Examples(take(self.inputs, rows), None if self.labels is None else self.labels[rows])

    def to(self, device: torch.device) -> Examples:
        """Return the examples on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Examples({name: values.to(device) for name, values in self.inputs.items()}, labels)


def write_examples(path: str | os.PathLike[str], examples: Examples) -> None:
    """Write examples as one safetensors file, atomically; the same examples give the same bytes."""
    tensors = {_INPUT + name: values.contiguous() for name, values in examples.inputs.items()}
    if examples.labels is not None:
        tensors[_LABELS] = examples.labels.contiguous()
    write_atomic(path, save(tensors))


def read_examples(path: str | os.PathLike[str]) -> Examples:
    """Read what `write_examples` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    _, tensors = read_safetensors(path, what="examples file")
    labels = tensors.pop(_LABELS, None)
    if not tensors or not all(name.startswith(_INPUT) for name in tensors):
        raise InputError(f"{str(path)!r} holds no examples: name a file that write_examples made")
    return Examples({name.removeprefix(_INPUT): values for name, values in tensors.items()}, labels)
