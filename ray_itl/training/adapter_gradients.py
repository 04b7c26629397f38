"""Gradients of a language model's loss on each text alone, with respect to its adapters (LoRA), for a batch at a time.

The two matrices of an adapter are linear layers. One with weights W (o x i) that reads a_t and gives W a_t at token t
has, on one text with loss L, the gradient

    dL/dW = sum_t e_t a_t'        e_t = dL / d(W a_t)

and texts of a batch do not meet. So one pass forward, in which the layers' inputs are kept, and one back, in which the
e_t come by, give the gradients of all texts, without a pass for each. L is the mean loss of a text's predicted tokens
(of conversations, of those of the answers), as in LESS (Xia et al., 2024, arXiv 2402.04333).

An adapter is two matrices, B A, and training begins with B = 0. Until then the gradient of A is zero, and that of B is
G A', with G the gradient of the frozen weights that the adapter is beside: a random projection of it, as A is random.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ray_itl.errors import ConfigError
from ray_itl.training.learner import Inputs, Learner, num_rows
from ray_itl.training.objectives import token_losses

Take = Callable[[str, Tensor], object]
"""Given a layer's name and the gradients of its weights, n x o x i, each layer once."""
_ADAPTER, _FIRST = "lora_", ".lora_A."
"""Parts of the names that peft gives to what belongs to an adapter, and to the first matrix of one."""


def adapter_layers(learner: Learner) -> dict[str, nn.Linear]:
    """Return the linear layers of a model's adapters by name.

    Raises:
        ConfigError: there are none, or not all that belongs to adapters is a linear layer.
    """
    modules = dict(learner.named_modules())
    layers: dict[str, nn.Linear] = {}
    for name, _ in learner.named_parameters():
        owner, _, kind = name.rpartition(".")
        if _ADAPTER not in name:
            continue
        layer = modules[owner]
        if not isinstance(layer, nn.Linear) or kind != "weight":
            raise ConfigError(
                f"embedding.kind=lora_gradient knows adapters of linear layers, which {name} is not: name others in "
                "model.options.lora_modules"
            )
        layers[owner] = layer
    if not any(_FIRST in name for name in layers):
        raise ConfigError(
            "embedding.kind=lora_gradient needs a causal language model with adapters: set model.name=causal_lm and "
            "model.options.lora_rank, as to 8"
        )
    return layers


def adapter_gradients(learner: Learner, layers: dict[str, nn.Linear], inputs: Inputs, take: Take) -> None:
    """Compute the gradients of n texts, each by itself, a layer at a time.

    Beside what torch keeps for its way back there are, at any time, the gradients of one layer.

    Args:
        learner: The model, in evaluation mode. Only its adapters need to require gradients; none are left in it.
        layers: Of `adapter_layers`.
        inputs: Token ids, mask, and which are answers where not all are; each row has a token that is predicted.
        take: Given every layer that has a part in the loss, in the order of the way back.

    Raises:
        ConfigError: a layer reads something else than the tokens of each text, as experts do.
    """
    summing = _Summing(num_rows(inputs), take)
    with ExitStack() as watching:
        # An output, its hook, what the hook holds, the output again: no garbage collector sees that ring.
        watching.callback(summing.ends.clear)
        for name, layer in layers.items():
            watching.callback(layer.register_forward_hook(summing.watch(name)).remove)
        with torch.enable_grad():
            losses, predicted = token_losses(learner, inputs)
            shares = 1 / predicted.sum(dim=1).to(losses)
            total = (losses * shares[predicted.nonzero()[:, 0]]).sum()
        # To the first matrix of each adapter: on the way there are all others. Weights themselves are not asked for.
        torch.autograd.grad(total, summing.ends, allow_unused=True)
    summing.finish()


class _Summing:
    """Sums up the gradients of layers while torch is on its way back."""

    def __init__(self, count: int, take: Take) -> None:
        self._count, self._take = count, take
        self._calls: dict[str, int] = {}
        self._sums: dict[str, Tensor] = {}
        self.ends: list[Tensor] = []

    def watch(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        """Return a hook for a layer's way forward; one that is called several times has the sum of their gradients."""

        def on_forward(_: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
            read = given[0].detach()
            if read.ndim != 3 or len(read) != self._count:
                raise ConfigError(
                    f"embedding.kind=lora_gradient cannot tell rows apart in {name}, which reads tokens of several "
                    "together: name other layers in model.options.lora_modules"
                )
            self._calls[name] = self._calls.get(name, 0) + 1
            if _FIRST in name:
                self.ends.append(output)
            output.register_hook(lambda errors: self._add(name, errors, read))

        return on_forward

    def _add(self, name: str, errors: Tensor, read: Tensor) -> None:
        kind = torch.promote_types(errors.dtype, torch.float32)
        gradients = errors.to(kind).mT @ read.to(kind)  # n x o x i, the sum over tokens of their products
        earlier = self._sums.pop(name, None)
        self._sums[name] = gradients if earlier is None else earlier + gradients
        self._calls[name] -= 1
        if not self._calls[name]:
            self._take(name, self._sums.pop(name))

    def finish(self) -> None:
        """Hand over layers some calls of which had no part in the loss."""
        for name, gradients in self._sums.items():
            self._take(name, gradients)
        self._sums.clear()
