"""A flat map of pool, targets and picks, by principal components.

Shapes: p rows of the pool sample, m targets, n picks, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.errors import InputError

_BLOCK = 16
_ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class Projection:
    """Coordinates along the two principal directions; with D = 1 the second coordinate is 0."""

    pool: np.ndarray
    """(p, 2) float64."""
    targets: np.ndarray
    """(m, 2) float64."""
    picks: np.ndarray
    """(n, 2) float64."""
    directions: np.ndarray
    """(D, min(2, D)) float64, orthonormal columns, the one with more variance first."""
    explained: float
    """Share in [0, 1] of the variance of pool sample and targets along the directions."""


def project(pool_sample: Tensor, targets: Tensor, picks: Tensor) -> Projection:
    """Return map rows to the plane by principal components.

    The components are fitted to the pool sample and the targets, each group weighing one half however many
    rows it has, so that a handful of targets shapes the map as much as the pool does. The result does not
    depend on the order of rows, and a direction's sign is fixed: its largest entry is positive. All three
    groups are held in float64, so a sample of some thousand rows of a large group is the thing to hand over.

    Args:
        pool_sample: (p, D) rows of the pool; p may be 0 if there are targets.
        targets: (m, D) target rows; m may be 0 if there are pool rows.
        picks: (n, D) picked rows, placed on the map but not used to fit it.

    Raises:
        InputError: the widths differ, D is 0, or there are neither pool rows nor targets.
    """
    pool_sample, targets, picks = (rows.detach().cpu().double() for rows in (pool_sample, targets, picks))
    widths = [rows.shape[1] for rows in (pool_sample, targets, picks)]
    if len(set(widths)) != 1 or widths[0] == 0:
        raise InputError(f"Pool sample, targets and picks have {widths} dimensions; they must be one.")
    groups = [rows for rows in (pool_sample, targets) if len(rows)]
    if not groups:
        raise InputError("A map needs at least one pool row or target row.")

    center = torch.stack([rows.mean(dim=0) for rows in groups]).mean(dim=0)
    weighted = torch.cat([(rows - center) / (len(groups) * len(rows)) ** 0.5 for rows in groups])
    directions = _principal_directions(weighted)
    total = weighted.square().sum()
    shown = (weighted @ directions).square().sum()
    explained = 1.0 if total == 0 else min(1.0, float(shown / total))

    def place(rows: Tensor) -> np.ndarray:
        flat = np.zeros((len(rows), 2))
        flat[:, : directions.shape[1]] = ((rows - center) @ directions).numpy()
        return flat

    return Projection(place(pool_sample), place(targets), place(picks), directions.numpy(), explained)


def _principal_directions(rows: Tensor) -> Tensor:
    """Return (D, min(2, D)) leading right singular vectors of `rows` (r, D), by subspace iteration.

    Iterating on a thin block costs r D work a step, where a full decomposition would cost D^3. The start is
    drawn with its own generator, so the map is the same on every run.
    """
    num_dims = rows.shape[1]
    start = torch.randn(
        num_dims, min(_BLOCK, num_dims), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    basis = torch.linalg.qr(start).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(rows.T @ (rows @ basis)).Q
    inside = rows @ basis
    rotation = torch.linalg.eigh(inside.T @ inside).eigenvectors.flip(1)
    directions = torch.linalg.qr(basis @ rotation[:, :2]).Q
    return directions * _signs(directions)


def _signs(directions: Tensor) -> Tensor:
    """Return (k,) of +1 and -1: the sign of each column's largest entry, or of the first that ties."""
    sizes = directions.abs()
    # A tie up to rounding must not let the rounding choose the sign.
    largest = (sizes >= (1 - 1e-6) * sizes.amax(dim=0)).to(torch.int8).argmax(dim=0)
    chosen = directions.gather(0, largest[None])[0]
    return torch.where(chosen < 0, -1.0, 1.0).to(directions.dtype)
