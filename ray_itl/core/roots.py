"""Square roots R of a covariance S = R R' in two forms: dense, and on the span of what has been learnt about.

Weights begin with covariance I, and only what was observed changes it. With an orthonormal basis Q (D x r) of all rows
observed,

    S = I - Q Q' + Q C C' Q',

so that a root C (r x r) on the span is all there is to know: O(D r) a step instead of O(D^2). From r > D / 2 on the
dense form (R, D x D) is the cheaper one. As there, variances are sums of squares, never differences of large numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.basis import Basis
from ray_itl.core.linalg import condition_root_on_rows, observe_row, removed_factor

_MOSTLY = 0.75
_DIFFERENCE_ROUNDING = 2.0**-52


class Root(ABC):
    """A root of the covariance of D weights; immutable."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """D."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Return R, D x D float64: O(D^2) memory, whatever the form."""

    @abstractmethod
    def variance(self, rows: Tensor) -> Tensor:
        """Return x'Sx of every row (N x D -> N), with full relative accuracy."""

    @abstractmethod
    def whitened(self, rows: Tensor) -> Tensor:
        """Return what rows are in coordinates where S = I: N x D -> N x w."""

    @abstractmethod
    def covariance_with(self, rows: Tensor) -> Tensor:
        """Return S y of every row: .. x D -> .. x D."""

    @abstractmethod
    def direction(self, row: Tensor, noise_variance: float) -> Tensor:
        """Return w = S y / sqrt(y'Sy + s2) of one row y (D)."""

    @abstractmethod
    def observe(self, row: Tensor, noise_variance: float) -> tuple[Tensor, Root]:
        """Return the direction of one row (D), and the root after it was observed: S falls by w w'."""

    @abstractmethod
    def condition_on_rows(self, rows: Tensor, noise_variance: float) -> Root:
        """Observe many rows (m x D) with noise, or without (s2 = 0)."""

    @abstractmethod
    def removed_factor(self) -> Tensor:
        """Return F (D x r) with S = I - F F'."""


@dataclass(frozen=True)
class DenseRoot(Root):
    """R itself: a step takes O(D^2)."""

    matrix: Tensor
    """D x D float64."""

    @property
    def dim(self) -> int:
        """See `Root`."""
        return self.matrix.shape[0]

    def dense(self) -> Tensor:
        """See `Root`."""
        return self.matrix

    def variance(self, rows: Tensor) -> Tensor:
        """See `Root`. O(N D^2)."""
        return self.whitened(rows).square().sum(dim=1)

    def whitened(self, rows: Tensor) -> Tensor:
        """See `Root`. O(N D^2)."""
        return rows @ self.matrix

    def covariance_with(self, rows: Tensor) -> Tensor:
        """See `Root`. O(D^2) a row."""
        return rows @ self.matrix @ self.matrix.mT

    def direction(self, row: Tensor, noise_variance: float) -> Tensor:
        """See `Root`."""
        seen = self.matrix.mT @ row
        return self.matrix @ seen / (float(seen @ seen) + noise_variance) ** 0.5

    def observe(self, row: Tensor, noise_variance: float) -> tuple[Tensor, DenseRoot]:
        """See `Root`."""
        direction, matrix = observe_row(self.matrix, row, noise_variance)
        return direction, DenseRoot(matrix)

    def condition_on_rows(self, rows: Tensor, noise_variance: float) -> DenseRoot:
        """See `Root`. O(m D^2 + D^3)."""
        return DenseRoot(condition_root_on_rows(self.matrix, rows, noise_variance, self.dim))

    def removed_factor(self) -> Tensor:
        """See `Root`. O(D^3)."""
        return removed_factor(self.matrix)


@dataclass(frozen=True)
class SpanRoot(Root):
    """C on the span of what was observed: a step takes O(D r)."""

    basis: Basis
    """Q', r vectors."""
    core: Tensor
    """C, r x r float64."""

    @classmethod
    def prior(cls, dim: int) -> SpanRoot:
        """Return the root of the covariance I of D weights."""
        return cls(Basis.empty(dim), torch.empty(0, 0, dtype=torch.float64))

    @property
    def dim(self) -> int:
        """See `Root`."""
        return self.basis.dim

    def dense(self) -> Tensor:
        """See `Root`. O(D^2 r)."""
        vectors, eye = self.basis.vectors, torch.eye(self.basis.size, dtype=torch.float64)
        return torch.eye(self.dim, dtype=torch.float64) + vectors.mT @ (self.core - eye) @ vectors

    def variance(self, rows: Tensor) -> Tensor:
        """See `Root`. O(N D r)."""
        lengths = rows.square().sum(dim=1)
        if not self.basis.size:
            return lengths
        coordinates = rows @ self.basis.vectors.mT
        outside = lengths - coordinates.square().sum(dim=1)
        # A row that is mostly within the span would leave rounding: the sum of squares of what is outside does not.
        mostly = torch.nonzero(outside <= (1.0 - _MOSTLY) * lengths).flatten()
        if len(mostly) == len(rows):
            outside = (rows - coordinates @ self.basis.vectors).square().sum(dim=1)
        elif len(mostly):
            outside[mostly] = (rows[mostly] - coordinates[mostly] @ self.basis.vectors).square().sum(dim=1)
        return outside + (coordinates @ self.core).square().sum(dim=1)

    def whitened(self, rows: Tensor) -> Tensor:
        """See `Root`. O(N D r)."""
        coordinates, outside = self.basis.split(rows)
        return torch.cat([coordinates @ self.core, outside], dim=1)

    def covariance_with(self, rows: Tensor) -> Tensor:
        """See `Root`. O(D r) a row."""
        coordinates, outside = self.basis.split_twice(rows)
        return outside + coordinates @ self.core @ self.core.mT @ self.basis.vectors

    def direction(self, row: Tensor, noise_variance: float) -> Tensor:
        """See `Root`. O(D r)."""
        coordinates, new = self.basis.place(row)
        if self._is_too_wide(len(coordinates)):
            return DenseRoot(self.dense()).direction(row, noise_variance)
        inside = DenseRoot(self._bordered(len(coordinates))).direction(coordinates, noise_variance)
        return self._unfold(inside, new)

    def observe(self, row: Tensor, noise_variance: float) -> tuple[Tensor, Root]:
        """See `Root`. O(D r)."""
        coordinates, new = self.basis.place(row)
        if self._is_too_wide(len(coordinates)):
            return DenseRoot(self.dense()).observe(row, noise_variance)
        inside, core = observe_row(self._bordered(len(coordinates)), coordinates, noise_variance)
        return self._unfold(inside, new), SpanRoot(self.basis.extended(new), core)

    def condition_on_rows(self, rows: Tensor, noise_variance: float) -> Root:
        """See `Root`. O(m D (r + min(m, D)) + r^3)."""
        if not len(rows):
            return self
        basis = self.basis.with_rows(rows)
        if self._is_too_wide(basis.size):
            return DenseRoot(self.dense()).condition_on_rows(rows, noise_variance)
        coordinates = rows @ basis.vectors.mT
        core = condition_root_on_rows(self._bordered(basis.size), coordinates, noise_variance, self.dim)
        return SpanRoot(basis, core)

    def removed_factor(self) -> Tensor:
        """See `Root`. O(D r^2)."""
        return self.basis.vectors.mT @ removed_factor(self.core)

    def _is_too_wide(self, size: int) -> bool:
        return 2 * size > self.dim

    def _unfold(self, coordinates: Tensor, new: Tensor) -> Tensor:
        """Return the vector (D) of given coordinates in the basis and a new vector, if there is one."""
        inside = coordinates[: self.basis.size] @ self.basis.vectors
        return torch.addcmul(inside, coordinates[-1], new[0]) if len(new) else inside

    def _bordered(self, size: int) -> Tensor:
        """Return C on a larger basis, of whose new vectors nothing is known yet."""
        if size == self.basis.size:
            return self.core
        bordered = torch.eye(size, dtype=torch.float64)
        bordered[: self.basis.size, : self.basis.size] = self.core
        return bordered


def told_factor(root: Root, given: Root) -> Tensor:
    """Return F with S - S_t = F F', D x m: what the observations would tell that S_t has and S has not.

    m is the rank of the difference but for rounding. O(D r^2), and O(D^3) where one of the roots is dense.
    """
    if isinstance(root, SpanRoot) and isinstance(given, SpanRoot):
        # All that S has seen S_t has seen, too: outside the span of S_t both are I.
        vectors, core = given.basis.vectors, given.core
        return vectors.mT @ _difference_root(root.covariance_with(vectors) @ vectors.mT, core @ core.mT)
    left, right = root.dense(), given.dense()
    return _difference_root(left @ left.mT, right @ right.mT)


def _difference_root(larger: Tensor, smaller: Tensor) -> Tensor:
    """Return F with F F' = the difference of two matrices, which has no negative eigenvalues but by rounding."""
    if not len(larger):
        return larger
    values, vectors = torch.linalg.eigh(larger - smaller)
    kept = values > _DIFFERENCE_ROUNDING * larger.diagonal().max()
    return vectors[:, kept] * values[kept].sqrt()
