"""Feature maps: from stored embeddings to the explicit features of a linear-in-weights model.

A kernel k(x, x') = phi(x)'phi(x') is chosen by choosing phi; the engine only ever sees phi(x).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import torch
from torch import Tensor

from ray_itl.errors import ConfigError, InputError


class FeatureMap(ABC):
    """A deterministic map of embedding rows, the same for pool, targets and known rows."""

    is_rowwise: ClassVar[bool] = False
    """Whether a row's features are the same to the last bit, whatever other rows are mapped with it."""

    @abstractmethod
    def dim(self, input_dim: int) -> int:
        """Return the number of features for embeddings of `input_dim` numbers."""

    @property
    @abstractmethod
    def key(self) -> str:
        """A text that is the same only for maps of the same values: features kept on disk are found by it."""

    @abstractmethod
    def __call__(self, rows: Tensor) -> Tensor:
        """Map rows (N x input_dim float64) to features (N x dim(input_dim) float64)."""


@dataclass(frozen=True)
class Identity(FeatureMap):
    """phi(x) = x: the linear kernel."""

    is_rowwise = True

    def dim(self, input_dim: int) -> int:
        """Return `input_dim`."""
        return input_dim

    @property
    def key(self) -> str:
        """The map's name."""
        return "as_is"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the rows themselves."""
        return rows


@dataclass(frozen=True)
class UnitNorm(FeatureMap):
    """phi(x) = x / |x|: the cosine kernel. A zero row stays zero (it carries no information)."""

    is_rowwise = True

    def dim(self, input_dim: int) -> int:
        """Return `input_dim`."""
        return input_dim

    @property
    def key(self) -> str:
        """The map's name."""
        return "unit_norm"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return rows of norm 1 (or 0)."""
        # Scaled by the largest entry first, so that squares neither overflow nor vanish.
        largest = rows.abs().amax(dim=1, keepdim=True)
        scaled = rows / largest.where(largest > 0, 1.0)
        norms = scaled.square().sum(dim=1, keepdim=True).sqrt()
        return scaled / norms.where(norms > 0, 1.0)


@dataclass(frozen=True)
class PriorCovariance(FeatureMap):
    """phi(x) = L'x with Sigma = L L': the linear kernel x'Sigma x' of a weight prior N(0, Sigma)."""

    factor: Tensor
    """L, D x r float64."""

    @classmethod
    def from_covariance(cls, covariance: Tensor) -> PriorCovariance:
        """Factor a symmetric positive semi-definite Sigma (D x D). O(D^3).

        Raises:
            InputError: it is not square, finite, symmetric and positive semi-definite.
        """
        sigma = covariance.to(torch.float64)
        if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not bool(torch.isfinite(sigma).all()):
            raise InputError(f"the prior covariance must be a finite square matrix, got {tuple(sigma.shape)}")
        values, vectors = torch.linalg.eigh((sigma + sigma.mT) / 2)
        top = float(values.abs().max())
        asymmetric = float((sigma - sigma.mT).abs().max()) > 1e-8 * max(top, 1e-300)
        if asymmetric or float(values.min()) < -1e-8 * top:
            raise InputError(
                "the prior covariance must be symmetric positive semi-definite; its smallest eigenvalue is "
                f"{float(values.min()):.3g}. Symmetrise it and add a multiple of the identity."
            )
        return cls(vectors * values.clamp_min(0).sqrt())

    def dim(self, input_dim: int) -> int:
        """Return the rank r.

        Raises:
            InputError: the matrix is for embeddings of another width.
        """
        if input_dim != self.factor.shape[0]:
            raise InputError(
                f"the prior covariance is for {self.factor.shape[0]} dimensions, the embeddings have {input_dim}"
            )
        return self.factor.shape[1]

    @property
    def key(self) -> str:
        """The map's name and a digest of L."""
        return f"prior_covariance {sha256(self.factor.contiguous().numpy().tobytes()).hexdigest()}"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return rows @ L."""
        return rows @ self.factor


@dataclass(frozen=True)
class RandomFourier(FeatureMap):
    """Random Fourier features of the RBF kernel exp(-|x - x'|^2 / (2 l^2)) (Rahimi and Recht, 2007).

    phi(x) = sqrt(2/R) [cos(Omega x / l), sin(Omega x / l)], Omega ~ N(0, I), R/2 x D. Every row has norm 1;
    the kernel error falls as 1/sqrt(R).
    """

    num_features: int
    lengthscale: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError when R or l cannot be."""
        if self.num_features < 2 or self.num_features % 2:
            raise ConfigError(
                f"num_features={self.num_features}: random Fourier features come in pairs; ask for 2, 4, ..."
            )
        if not 0 < self.lengthscale < math.inf:
            raise ConfigError(f"lengthscale={self.lengthscale}: must be finite and greater than 0")

    def dim(self, input_dim: int) -> int:
        """Return R, the number of features."""
        del input_dim
        return self.num_features

    @property
    def key(self) -> str:
        """The map's name and everything that decides Omega."""
        return f"random_fourier {self.num_features} {self.lengthscale!r} {self.seed}"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the R features of every row."""
        generator = torch.Generator().manual_seed(self.seed)
        half = self.num_features // 2
        omega = torch.randn(rows.shape[1], half, generator=generator, dtype=torch.float64)
        angles = rows @ (omega / self.lengthscale)
        return torch.cat([angles.cos(), angles.sin()], dim=1) * half**-0.5
