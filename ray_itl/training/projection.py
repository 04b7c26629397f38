"""Random projection of Kronecker products, without ever forming them."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.training.seeds import derive_seed


class KroneckerProjection:
    """A random linear map from R^(C D) to R^p that keeps inner products of a x h on average.

    Entry k of the projection of a x h is (r1_k . a)(r2_k . h) / sqrt(p), with rows r1_k in R^C and r2_k in R^D of
    independent entries of mean 0 and variance 1. It is the product of a x h with the row r1_k x r2_k, and
    E[<P(a x h), P(b x g)>] = <a, b><h, g>: an average of p independent terms, so the error falls as 1/sqrt(p).
    Entries are standard normal, or signs (of smaller variance). O(p (C + D)) a row, where the product itself has C D
    entries; p (C + D) floats of memory (tensor random projection; Sun, Guo, Tropp and Udell, 2018)."""

    def __init__(self, num_classes: int, feature_dim: int, dim: int, kind: str, seed: int) -> None:
        """Draw the rows, which are a function of the arguments alone.

        Args:
            num_classes: C.
            feature_dim: D.
            dim: p.
            kind: "gaussian" or "sign".
            seed: Any seed.
        """
        self.dim = dim
        self._left = _draw(dim, num_classes, kind, derive_seed(seed, "projection", "classes"))
        self._right = _draw(dim, feature_dim, kind, derive_seed(seed, "projection", "features"))

    def to(self, device: torch.device | str) -> KroneckerProjection:
        """Move the rows to a device, in place."""
        self._left, self._right = self._left.to(device), self._right.to(device)
        return self

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """Project n rows of factors, left n x C and right n x D float32; returns n x p."""
        return (left @ self._left.mT) * (right @ self._right.mT) * self.dim**-0.5


def _draw(num_rows: int, dim: int, kind: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "sign":
        return torch.randint(0, 2, (num_rows, dim), generator=generator).float() * 2 - 1
    return torch.randn(num_rows, dim, generator=generator)
