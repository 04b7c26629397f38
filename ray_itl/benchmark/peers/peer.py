"""What every peer is given, and what it has to say about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.posterior import Targets


@dataclass(frozen=True)
class Problem:
    """One selection: the same for all peers."""

    pool: np.ndarray
    """N x D float32."""
    targets: np.ndarray
    """M x D float32."""
    n: int
    """Number of picks, 1 <= n < N."""
    noise_variance: float
    num_threads: int

    @property
    def pool_tensor(self) -> Tensor:
        """The pool, N x D float32; shares its memory."""
        return torch.from_numpy(self.pool)

    @property
    def target_tensor(self) -> Tensor:
        """The targets, M x D float32; shares their memory."""
        return torch.from_numpy(self.targets)

    @cached_property
    def exact_targets(self) -> Targets:
        """The targets in float64, of weight 1."""
        return Targets.uniform(self.target_tensor.to(torch.float64))


@dataclass(frozen=True)
class Peer:
    """A way to pick rows.

    Attributes:
        name: in tables, unique.
        package: the distribution on PyPI that it needs; "" where that is this project.
        how: the setting, in a few words.
        select: from a Problem to the indices of n picks, in order. All it does counts: indices and kernels that it
            builds, code that it compiles.
        modules: what it imports. They are loaded before the time counts.
    """

    name: str
    package: str
    how: str
    select: Callable[[Problem], Sequence[int]]
    modules: tuple[str, ...] = ()

    def version(self) -> str | None:
        """Return the version of its package, "" where it needs none; None if it is not installed."""
        try:
            return version(self.package) if self.package else ""
        except PackageNotFoundError:
            return None
