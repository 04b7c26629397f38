"""Adam's means of squared gradients on disk, and what a gradient is multiplied by to be a step of Adam's.

Adam divides a gradient g, number by number, by sqrt(v) + eps, v being a mean of its squares over the steps so far. A
row's step then lowers the loss of another, to first order, by

    sum_j g_j g'_j / (sqrt(v_j) + eps) = <s g, s g'>        s_j = (sqrt(v_j) + eps)^(-1/2)

so that s times the gradients are features of which that is the kernel, the same for rows and targets (LESS, Xia et al.,
2024, arXiv 2402.04333, section 3.1, which also has momentum, on the one side alone).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ray_itl.errors import InputError
from ray_itl.io.atomic import write_atomic
from ray_itl.training.checkpoint import read_safetensors

_STATE = "exp_avg_sq"
"""Torch's name for them in the state of Adam."""
_EPS = 1e-8
"""As Adam's by default."""


def save_second_moments(model: nn.Module, optimiser: torch.optim.Optimizer, path: str | os.PathLike[str]) -> None:
    """Write those of all parameters that an optimiser of Adam's kind has trained, by the parameters' names.

    What took no step has zeros.

    Raises:
        RunDirectoryError: the file cannot be written.
    """
    trained = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    named = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in trained}
    found = {
        name: optimiser.state[parameter].get(_STATE, torch.zeros_like(parameter)) for name, parameter in named.items()
    }
    write_atomic(path, save({name: values.detach().cpu().contiguous() for name, values in found.items()}))


def read_second_moments(path: str | os.PathLike[str], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of some parameters, on the CPU.

    Args:
        path: A file of `save_second_moments`, or any safetensors file of such tensors by the parameters' names.
        parameters: By name.

    Raises:
        InputError: the file is missing, damaged, or of another model, or a number is negative, NaN or infinite.
    """
    _, found = read_safetensors(path, what="the file of second moments")
    for name, parameter in parameters.items():
        values = found.get(name)
        if values is None or values.shape != parameter.shape:
            have = "has none" if values is None else f"has {tuple(values.shape)}"
            raise InputError(
                f"second_moments {str(path)!r} {have} for {name}, which is {tuple(parameter.shape)}: name a file that "
                "the same training wrote, with training.keep_second_moments=true"
            )
        if not (torch.isfinite(values) & (values >= 0)).all():
            raise InputError(
                f"second_moments {str(path)!r} has numbers for {name} that are no means of squares (negative, NaN or "
                "infinite): make it again"
            )
    return {name: found[name].float() for name in parameters}


def adam_scales(moments: Tensor) -> Tensor:
    """Return (sqrt(v) + eps)^(-1/2), what a gradient is multiplied by, in the shape of v."""
    return (moments.sqrt() + _EPS).rsqrt()
