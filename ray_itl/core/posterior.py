"""The Gaussian posterior of a linear model's weights, the targets it is to learn about, and what is unknown of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.basis import Basis
from ray_itl.core.linalg import compress_rows
from ray_itl.core.roots import DenseRoot, Root, SpanRoot, told_factor

_DENSE_DIM = 2048
"""Up to here a D x D root is a small file (32 MiB at most), and simplest to read."""


@dataclass(frozen=True)
class Posterior:
    """Weights ~ N(., S); only the covariance matters for selection.

    Immutable: `condition` returns a new posterior. With r the rank of what was observed (D where that exceeds D / 2), a
    step takes O(D r) time and memory.
    """

    form: Root
    """A root R of S = R R'."""

    @classmethod
    def prior(cls, dim: int) -> Posterior:
        """Return the prior N(., I) over D weights."""
        return cls(SpanRoot.prior(dim))

    @classmethod
    def of_root(cls, root: Tensor) -> Posterior:
        """Return the posterior of a dense root, D x D float64."""
        return cls(DenseRoot(root))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Posterior:
        """Return what `tensors` were made of."""
        if "root" in tensors:
            return cls.of_root(tensors["root"])
        return cls(SpanRoot(Basis(tensors["basis"]), tensors["root_in_basis"]))

    def tensors(self) -> dict[str, Tensor]:
        """Return all there is to know as tensors by name, float64.

        `root` R (D x D, S = R R') up to D = 2,048, and where the rank r of what was observed exceeds D / 2. Else
        `basis` Q' (r x D, orthonormal rows) and `root_in_basis` C (r x r), with S = I - Q Q' + Q C C' Q'.
        """
        if self.form.dim <= _DENSE_DIM or not isinstance(self.form, SpanRoot):
            return {"root": self.root.contiguous()}
        return {"basis": self.form.basis.vectors.contiguous(), "root_in_basis": self.form.core.contiguous()}

    @property
    def is_prior(self) -> bool:
        """Whether nothing has been observed, so that S = I."""
        return isinstance(self.form, SpanRoot) and not self.form.basis.size

    @property
    def root(self) -> Tensor:
        """R, D x D float64: O(D^2) memory whatever was observed, and O(D^2 r) to make."""
        return self.form.dense()

    def condition(self, row: Tensor, noise_variance: float) -> Posterior:
        """Observe y'w + noise for one row y (D): S <- S - S y y'S / (y'Sy + s2). O(D r)."""
        return self.observe(row, noise_variance)[1]

    def condition_on_rows(self, rows: Tensor, noise_variance: float) -> Posterior:
        """Observe Y w + noise for many rows Y (m x D), s2 >= 0. O(m D (r + min(m, D)) + r^3)."""
        return Posterior(self.form.condition_on_rows(rows, noise_variance))

    def variance(self, rows: Tensor) -> Tensor:
        """Return x'Sx of every row (N x D -> N), with full relative accuracy. O(N D r)."""
        return self.form.variance(rows)

    def covariance_with(self, rows: Tensor) -> Tensor:
        """Return S y (D) of one row y (D), or of each of m rows (m x D). O(D r) a row."""
        return self.form.covariance_with(rows)

    def whitened(self, rows: Tensor) -> Tensor:
        """Return x~ of every row (N x D -> N x w, w >= D), where x'Sa = x~'a~ keeps the accuracy of both. O(N D r)."""
        return self.form.whitened(rows)

    def direction(self, row: Tensor, noise_variance: float) -> Tensor:
        """Return w = S y / sqrt(y'Sy + s2) of one row y (D): observing y subtracts w w' from S. O(D r)."""
        return self.form.direction(row, noise_variance)

    def observe(self, row: Tensor, noise_variance: float) -> tuple[Tensor, Posterior]:
        """Return the direction of one row and the posterior after observing it: O(D r) for both."""
        direction, form = self.form.observe(row, noise_variance)
        return direction, Posterior(form)

    def told_factor(self, given: Posterior) -> Tensor:
        """Return F (D x m) with S - S_t = F F', for the covariance S_t given more: what that would tell. O(D r^2)."""
        return told_factor(self.form, given.form)

    def removed_factor(self) -> Tensor:
        """Return F (D x r) with S = I - F F': what has been learnt. O(D r^2)."""
        return self.form.removed_factor()


@dataclass(frozen=True)
class Targets:
    """The target sample in feature space, with a weight for each target.

    A weight w_a divides that target's noise variance (ITL) and multiplies its share of the objective (VTL):
    both see only diag(sqrt(w)) A. Weight 2 is the same as listing the target twice.
    """

    rows: Tensor
    """A, M x D float64."""
    weights: Tensor
    """w, M float64, >= 0."""

    @classmethod
    def uniform(cls, rows: Tensor) -> Targets:
        """Return targets of weight 1."""
        return cls(rows, torch.ones(rows.shape[0], dtype=torch.float64))

    @property
    def weighted(self) -> Tensor:
        """diag(sqrt(w)) A without the rows of weight zero: m x D."""
        present = self.weights > 0
        return self.rows[present] * self.weights[present].sqrt()[:, None]

    def moment_root(self) -> Tensor:
        """Return T, min(M, D) x D, with T'T = A' diag(w) A. O(M D^2)."""
        return compress_rows(self.weighted)


def target_variance(posterior: Posterior, targets: Targets) -> float:
    """Return sum_a w_a k(a, a) over the targets under a posterior. O(M D (r + min(M, D)))."""
    return float(posterior.variance(targets.moment_root()).sum())


def remaining_uncertainty(posterior: Posterior, targets: Targets, picks: Tensor, noise_variance: float) -> Tensor:
    """Return sum_a w_a k(a, a) after 0, 1, .., n picks as a share of its value before the first.

    Args:
        posterior: What is known before the first pick.
        targets: The target sample.
        picks: Features of the picks in order, n x D float64.
        noise_variance: s2 of an observation.

    Returns:
        n + 1 float64, from 1 down; all 1 where the targets have no variance to lose. O(n D (r + min(M, D))).
    """
    return uncertainty_along(posterior, targets, directions(posterior, picks, noise_variance))


def uncertainty_along(posterior: Posterior, targets: Targets, directions: Tensor) -> Tensor:
    """Return what `remaining_uncertainty` does, of picks whose `directions` (D x n) are known. O(n D min(M, D))."""
    total = target_variance(posterior, targets)
    falls = (targets.moment_root() @ directions).square().sum(dim=0)
    left = torch.cat([torch.tensor([total], dtype=torch.float64), -falls]).cumsum(dim=0).clamp_min(0)
    return left / total if total > 0 else torch.ones_like(left)


def directions(posterior: Posterior, picks: Tensor, noise_variance: float) -> Tensor:
    """Return w = S y / sqrt(y'Sy + s2) of every pick y at its step: picking y subtracts w w' from S.

    Args:
        posterior: What is known before the first pick.
        picks: Features of the picks in order, n x D float64.
        noise_variance: s2 of an observation.

    Returns:
        D x n. O(n D r).
    """
    columns = torch.empty(picks.shape[1], len(picks), dtype=torch.float64)
    for step, pick in enumerate(picks):
        columns[:, step], posterior = posterior.observe(pick, noise_variance)
    return columns
