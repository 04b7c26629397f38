"""The processes that share a training step, as the training loop sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Workers(Protocol):
    """One worker's view of all workers."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many workers there are."""
        ...

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, the same bits on every worker; all must call it."""
        ...


class OneWorker:
    """No one to share with."""

    rank = 0
    size = 1

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""
