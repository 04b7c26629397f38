"""Products of copied rows with columns, each with a bound on how far it may be from the product with the true column.

Both kinds replace a column w by another one that they can multiply by, and know the gap. What they round in doing so is
bounded, not estimated: sums of n terms in a precision of unit u are off by at most n u / (1 - n u) of the sum of the
terms' sizes (Higham, "Accuracy and Stability of Numerical Algorithms", sections 3.1 and 3.5), and sums of integers by
nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_itl.core.linalg import unit_roundoff

_TERMS = 128
"""Terms that a product in floating point adds up in a row: longer sums are sums of such sums, and err by less."""
_MOST_COLUMNS_OF_AN_EXACT_NORM = 256
LEVELS, _FINER = 127, 254
"""Integers are at most 127; every further plane is 254 times finer."""
_MOST_PLANES = 3
_SMALL_GAP = 2e-4
"""A gap that needs no further plane, beside the columns' norm: less than what rounding rows hides."""
_MULTIPLE, _FEWEST_ROWS = 8, 32
"""GPUs multiply integers in matrices whose sides are multiples of the one, of no fewer rows than the other."""


@dataclass(frozen=True)
class Columns:
    """Columns, num_tracks x B of them, as the right-hand side of products with copied rows."""

    right: Tensor
    """D' x (planes of num_tracks B columns each), on the device and in the type of the product."""
    num_tracks: int
    num_steps: int
    scales: Tensor
    """A product with track t is scales[t] times what the arithmetic returns, times the unit of the row."""
    norms: tuple[float, ...]
    """For each track, a bound on the spectral norm of its D x B columns."""
    gaps: tuple[float, ...]
    """For each track: products with a copy y are off by a vector (B) of norm at most this times |y|."""

    @property
    def are_floats(self) -> bool:
        """Whether they have one plane, of floating point, and rows have no units."""
        return self.right.dtype != torch.int8

    def after(self, first: int) -> Columns:
        """Return the columns of the steps from `first` on: their products are the same, bit for bit, of integers."""
        width = self.num_tracks * self.num_steps
        kept = torch.arange(width, device=self.right.device).view(self.num_tracks, self.num_steps)[:, first:].flatten()
        planes = [part[:, kept] for part in self.right.split(width if self.are_floats else padded(width), dim=1)]
        if not self.are_floats:
            planes = [_pad(plane, padded(len(kept)), dim=1) for plane in planes]
        return Columns(
            torch.cat(planes, dim=1), self.num_tracks, self.num_steps - first, self.scales, self.norms, self.gaps
        )


class Arithmetic(ABC):
    """How products of copied rows with columns are computed."""

    dtype: torch.dtype
    """Of the products, and of what is computed from them."""

    @property
    def unit(self) -> float:
        """u, the largest relative error of one rounding in `dtype`."""
        return unit_roundoff(self.dtype)

    @abstractmethod
    def columns(self, columns: Tensor, device: torch.device, one_scale: bool = False) -> Columns:
        """Prepare columns (D x num_tracks x B float64). O(D B (B + 1) num_tracks).

        Args:
            columns: Of the picks.
            device: Of the rows.
            one_scale: Whether all tracks share a scale, so that their products may be added up.
        """

    @abstractmethod
    def products(self, rows: Tensor, columns: Columns) -> Tensor:
        """Multiply n copied rows: n x num_tracks x B, without the scales and units. O(n D B num_tracks)."""


@dataclass(frozen=True)
class FloatArithmetic(Arithmetic):
    """In float32 or float64."""

    dtype: torch.dtype

    def columns(self, columns: Tensor, device: torch.device, one_scale: bool = False) -> Columns:
        """See `Arithmetic`: a column is rounded, and a product is off by the rounding of its sum."""
        del one_scale  # it always is 1
        dim, tracks, steps = columns.shape
        rounded = columns.to(self.dtype)
        rounding = sum_error(min(dim, _TERMS) + -(-dim // _TERMS), self.unit)
        gaps = tuple(
            spectral_bound(columns[:, t] - rounded[:, t].to(torch.float64)) + rounding * float(columns[:, t].norm())
            for t in range(tracks)
        )
        norms = tuple(spectral_bound(columns[:, t]) for t in range(tracks))
        right = rounded.flatten(1).to(device)
        return Columns(right, tracks, steps, torch.ones(tracks, dtype=torch.float64), norms, gaps)

    def products(self, rows: Tensor, columns: Columns) -> Tensor:
        """See `Arithmetic`."""
        found = rows[:, :_TERMS] @ columns.right[:_TERMS]
        for first in range(_TERMS, rows.shape[1], _TERMS):
            # A product of its own, not one that goes on adding to the sum so far: that sum would be as long as a row.
            found += rows[:, first : first + _TERMS] @ columns.right[first : first + _TERMS]
        return found.view(len(rows), columns.num_tracks, columns.num_steps)


@dataclass(frozen=True)
class IntegerArithmetic(Arithmetic):
    """Rows of integers of 8 bits, columns of two or three such planes, sums of 32 bits, which are exact.

    A row is unit (q o sigma) with integers q and a scale for each coordinate; a column w is replaced by
    scale (a + b / 254 + c / 254^2) / sigma with integers a, b, c.
    """

    coordinate_scales: Tensor
    """sigma, D float64, > 0."""
    dtype: torch.dtype = torch.float32

    def columns(self, columns: Tensor, device: torch.device, one_scale: bool = False) -> Columns:
        """See `Arithmetic`. One scale serves all columns of a track, so that no product needs one of its own."""
        _, tracks, steps = columns.shape
        sigma = self.coordinate_scales[:, None, None]
        wanted = columns * sigma
        scales = torch.stack([part.abs().max() if steps else part.sum() for part in wanted.unbind(dim=1)]) / LEVELS
        scales = scales.max().expand(tracks) if one_scale else scales
        scales = scales.where(scales > 0, 1.0)
        norms = tuple(spectral_bound(columns[:, t]) for t in range(tracks))
        left, planes, sizes = wanted / scales[:, None], [], torch.zeros_like(columns)
        gaps: tuple[float, ...] = ()
        while len(planes) < 2 or (len(planes) < _MOST_PLANES and _are_wide(gaps, norms)):
            finer = _FINER ** len(planes)
            planes.append((left * finer).round())
            left, sizes = left - planes[-1] / finer, sizes + planes[-1].abs() * scales[:, None] / finer / sigma
            gap = left * scales[:, None] / sigma
            # Each plane's sums are rounded to float32, divided and added.
            rounding = 3 * len(planes) * self.unit
            gaps = tuple(spectral_bound(gap[:, t]) + rounding * float(sizes[:, t].norm()) for t in range(tracks))
        width = padded(tracks * steps)
        right = torch.cat([_pad(plane.flatten(1).to(torch.int8), width, dim=1) for plane in planes], dim=1)
        right = _pad(right, padded(len(columns)), dim=0).to(device)
        return Columns(right, tracks, steps, scales, norms, gaps)

    def products(self, rows: Tensor, columns: Columns) -> Tensor:
        """See `Arithmetic`."""
        width = columns.num_tracks * columns.num_steps
        if not width:
            return torch.empty(len(rows), columns.num_tracks, 0, dtype=self.dtype, device=rows.device)
        sums = multiply_integers(rows, columns.right)
        found, *finer = (plane[:, :width] for plane in sums.split(padded(width), dim=1))
        found = found.to(self.dtype)
        for level, plane in enumerate(finer, start=1):
            found.add_(plane, alpha=1.0 / _FINER**level)
        return found.view(len(rows), columns.num_tracks, columns.num_steps)


def multiply_integers(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the product of matrices of int8, in int32: exact below 130,000 coordinates."""
    padded = _pad(rows, max(len(rows), _FEWEST_ROWS), dim=0) if rows.is_cuda else rows
    return torch._int_mm(padded, columns)[: len(rows)]  # pyright: ignore[reportPrivateImportUsage]  # torch quantizes by


def sum_error(num_terms: int, unit: float) -> float:
    """Return by how much a sum may be off, relative to the sum of its terms' sizes, in any order of adding.

    Each term may be a rounded product.
    """
    share = (num_terms + 1) * unit
    return share / (1.0 - share)


def spectral_bound(matrix: Tensor) -> float:
    """Return a number that is at least the largest singular value of a D x B matrix, near it for up to 256 columns.

    O(D B^2), and O(B^3) for few columns.
    """
    gram = matrix.mT @ matrix
    largest = float(gram.diagonal().sum())
    if 1 < len(gram) <= _MOST_COLUMNS_OF_AN_EXACT_NORM:
        largest = min(largest, float(torch.linalg.eigvalsh(gram)[-1]) + 1e-13 * largest)
    elif len(gram) > 1:
        largest = min(largest, float(gram.abs().sum(dim=1).max()))
    return max(0.0, largest) ** 0.5 * (1.0 + 1e-12)


def _are_wide(gaps: tuple[float, ...], norms: tuple[float, ...]) -> bool:
    return any(gap > _SMALL_GAP * norm for gap, norm in zip(gaps, norms, strict=True))


def padded(size: int) -> int:
    """Return the width of rows (or columns) of integers: their number, and zeros up to a multiple of 8."""
    return -(-size // _MULTIPLE) * _MULTIPLE


def _pad(matrix: Tensor, size: int, dim: int) -> Tensor:
    missing = size - matrix.shape[dim]
    if not missing:
        return matrix
    shape = list(matrix.shape)
    shape[dim] = missing
    return torch.cat([matrix, matrix.new_zeros(shape)], dim=dim)
