"""Kernels that are small for unlike rows: exact, and by features. What is not in the package is here to compare with.

All are functions of rows of norm 1, and 1 for a row and itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.features import FeatureMap, RandomFourier

Kernel = Callable[[Tensor], Tensor]
"""Of cosines, entry by entry."""


def rbf(lengthscale: float) -> Kernel:
    """Return exp(-|x - x'|^2 / (2 l^2))."""
    return lambda cosines: ((cosines - 1) / lengthscale**2).exp()


def polynomial(degree: int) -> Kernel:
    """Return ((1 + x'x) / 2)^degree."""
    return lambda cosines: ((1 + cosines) / 2) ** degree


def arc_cosine(cosines: Tensor) -> Tensor:
    """Return (sin t + (pi - t) cos t) / pi at the angle t: the arc-cosine kernel of order 1 (Cho and Saul, 2009)."""
    angles = cosines.clamp(-1, 1).acos()
    return (angles.sin() + (math.pi - angles) * angles.cos()) / math.pi


@dataclass(frozen=True)
class ArcCosine(FeatureMap):
    """phi(x) = sqrt(2/R) max(Omega x, 0), Omega ~ N(0, I), R x D: the arc-cosine kernel of order 1."""

    num_features: int
    seed: int = 0

    def dim(self, input_dim: int) -> int:
        """Return R."""
        del input_dim
        return self.num_features

    @property
    def key(self) -> str:
        """The map's name and everything that decides Omega."""
        return f"arc_cosine {self.num_features} {self.seed}"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the R features of every row."""
        generator = torch.Generator().manual_seed(self.seed)
        omega = torch.randn(rows.shape[1], self.num_features, generator=generator, dtype=torch.float64)
        return (rows @ omega).clamp_min_(0).mul_(math.sqrt(2 / self.num_features))


@dataclass(frozen=True)
class TensorSketch(FeatureMap):
    """Features of ((1 + x'x') / 2)^degree: a product of count sketches of (1, x) / sqrt(2) (Pham and Pagh, 2013)."""

    num_features: int
    degree: int
    seed: int = 0

    def dim(self, input_dim: int) -> int:
        """Return R."""
        del input_dim
        return self.num_features

    @property
    def key(self) -> str:
        """The map's name and everything that decides the sketches."""
        return f"tensor_sketch {self.num_features} {self.degree} {self.seed}"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the R features of every row."""
        generator = torch.Generator().manual_seed(self.seed)
        whole = torch.cat([torch.ones(len(rows), 1, dtype=rows.dtype), rows], dim=1) / math.sqrt(2)
        product: Tensor | None = None
        for _ in range(self.degree):
            places = torch.randint(self.num_features, (whole.shape[1],), generator=generator)
            signs = 1.0 - 2.0 * torch.randint(2, (whole.shape[1],), generator=generator)
            sketch = torch.zeros(len(rows), self.num_features, dtype=rows.dtype)
            sketch.index_add_(1, places, whole * signs)
            factor = torch.fft.rfft(sketch)
            product = factor if product is None else product.mul_(factor)
        assert product is not None
        return torch.fft.irfft(product, self.num_features)


@dataclass(frozen=True)
class AnchoredFourier(FeatureMap):
    """The RBF kernel, exact between the targets A and any row, and by random Fourier features between other rows.

    phi(x) = [p, sqrt(1 - |p|^2) psi(x)] with p = L^-1 k(A, x), L L' = k(A, A), and psi(x) the random features. Every
    row has norm 1, and for a target |p| = 1, so that psi never takes part in a product with one.
    """

    fourier: RandomFourier
    anchors: Tensor
    """A, M x D float64."""

    def dim(self, input_dim: int) -> int:
        """Return M + R."""
        return len(self.anchors) + self.fourier.dim(input_dim)

    @property
    def key(self) -> str:
        """Not to be kept on disk."""
        raise NotImplementedError

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the M + R features of every row."""
        gram = self._kernel(self.anchors)
        gram.diagonal().add_(1e-9)
        root = torch.linalg.cholesky(gram)
        exact = torch.linalg.solve_triangular(root, self._kernel(rows).mT, upper=False).mT
        rest = (1 - exact.square().sum(dim=1, keepdim=True)).clamp_min_(0).sqrt_()
        return torch.cat([exact, rest * self.fourier(rows)], dim=1)

    def _kernel(self, rows: Tensor) -> Tensor:
        return (torch.cdist(rows, self.anchors).square_() / (-2 * self.fourier.lengthscale**2)).exp_()


def greedy_picks(kernel: Kernel, pool: Tensor, targets: Tensor, n: int, noise: float, rule: str) -> list[int]:
    """Return the n picks of plain greedy selection by ITL or VTL with a kernel as it is. O(n N (D + M n)).

    Args:
        kernel: Of cosines.
        pool: N x D float64, of norm 1.
        targets: M x D float64, of norm 1.
        n: How many.
        noise: s2, of picks and targets.
        rule: itl or vtl.
    """
    num_rows, rows = len(pool), torch.cat([pool, targets])
    given_picks, given_all = _Conditioned(kernel, rows, noise), _Conditioned(kernel, rows, noise)
    for target in range(num_rows, len(rows)):
        given_all.condition(target)
    covariances = kernel(rows @ targets.mT)
    picks: list[int] = []
    for _ in range(n):
        if rule == "itl":
            gains = ((given_picks.variances + noise) / (given_all.variances + noise))[:num_rows]
        else:
            gains = (covariances.square().sum(dim=1) / (given_picks.variances + noise))[:num_rows]
        gains[picks] = -1.0
        picks.append(int(gains.argmax()))
        column = given_picks.condition(picks[-1])
        covariances -= torch.outer(column, column[num_rows:])
        given_all.condition(picks[-1])
    return picks


class _Conditioned:
    """Variances of all rows given some, from the columns of their pivoted Cholesky factor."""

    def __init__(self, kernel: Kernel, rows: Tensor, noise: float) -> None:
        self._kernel, self._rows, self._noise = kernel, rows, noise
        self._columns: list[Tensor] = []
        self.variances = torch.ones(len(rows), dtype=rows.dtype)

    def condition(self, row: int) -> Tensor:
        """Observe a row; returns its column."""
        column = self._kernel(self._rows @ self._rows[row])
        for earlier in self._columns:
            column -= earlier[row] * earlier
        column /= math.sqrt(max(float(column[row]), 0.0) + self._noise)
        self._columns.append(column)
        self.variances -= column.square()
        return column
