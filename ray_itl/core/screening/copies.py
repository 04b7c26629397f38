"""Copies of a shard's rows that are quick to multiply, each with a bound on how far it is from its row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore, MemoryFeatures, RoomForCopies, chunk_rows_for
from ray_itl.core.linalg import unit_roundoff
from ray_itl.core.messages import Precision
from ray_itl.core.screening.arithmetic import LEVELS, Arithmetic, FloatArithmetic, IntegerArithmetic, padded

_SAMPLE = 4096
_LEAST_SCALE = 1.0 / 16.0
"""Of a coordinate's root mean square, beside that of all: columns are divided by it."""
_HALF = 0.501
"""A rounded number is off by at most this: a half, and what dividing in float32 adds below 127."""
_ROUNDED_AT_ONCE = 2048
"""Rows that fit the processor's own cache."""
_SMALLEST, _LARGEST = 2.0**-100, 2.0**100
"""Rows beyond these, over the scales, are not rounded."""
_RATIO_MARGIN = 1.15
_GPU_CHUNK_BYTES = 1 << 26


UNIT_BYTES = 4
"""What is kept in memory of a row whose copy is elsewhere."""


def copy_bytes(precision: Precision, dim: int) -> int:
    """Return the bytes that a copy takes beside its row."""
    return {"int8": padded(dim) + UNIT_BYTES, "bfloat16": 2 * dim}.get(precision, 0)


class RowCopies(ABC):
    """Copies y of n rows x."""

    arithmetic: Arithmetic
    ratio: float
    """rho: |x - y| <= rho sqrt(E) for the numbers E of `error_norms`."""

    @abstractmethod
    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield all copies once, in order, as the arithmetic takes them."""

    @abstractmethod
    def units(self, rows: slice | Tensor) -> Tensor | None:
        """Return what products of these copies are multiplied by, float64; None: by nothing."""

    @abstractmethod
    def error_norms(self, rows: slice | Tensor, norms: Tensor) -> Tensor:
        """Return E >= max(|x|^2, |y|^2, (|x - y| / rho)^2) of some rows, float64, given their |x|^2."""


class FloatCopies(RowCopies):
    """The rows themselves in float32 or float64, rounded where they are kept in more digits.

    In bfloat16 they are kept beside the rows: half of float32's memory, the same arithmetic.
    """

    def __init__(self, features: FeatureStore, precision: Precision, room: RoomForCopies) -> None:
        """Look at n rows; in bfloat16 a pass over them, whose copies go where there is `room`."""
        self.arithmetic = FloatArithmetic(torch.float64 if precision == "float64" else torch.float32)
        kept = torch.bfloat16 if precision == "bfloat16" else self.arithmetic.dtype
        rounding = unit_roundoff(kept)
        self.ratio = 0.0 if rounding <= unit_roundoff(features.dtype) else 1.001 * rounding
        self._kept = features
        if precision == "bfloat16" and self.ratio:
            sink = room(features.dim, kept)
            for rows, chunk in features.chunks():
                sink.fill(rows, partial(_copy, chunk))
            self._kept = sink.finish()

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """See `RowCopies`."""
        for rows, chunk in self._kept.chunks():
            yield rows, chunk.to(self.arithmetic.dtype)

    def units(self, rows: slice | Tensor) -> Tensor | None:
        """See `RowCopies`: none."""
        del rows
        return None

    def error_norms(self, rows: slice | Tensor, norms: Tensor) -> Tensor:
        """See `RowCopies`: |x|^2, and a little where rows are rounded."""
        del rows
        return norms * (1.0 + self.ratio) ** 2 if self.ratio else norms


class IntegerCopies(RowCopies):
    """y = unit (q o sigma): integers q of 8 bits, a unit for each row, a scale for each coordinate.

    The scales are the coordinates' root mean squares over a sample: embeddings have a few large coordinates, and with
    one scale for all of them the others would be all rounding. Then |x - y| is about 0.012 |x| at most, for 384
    coordinates, in a quarter of float32's memory.
    """

    def __init__(self, features: FeatureStore, norms: Tensor, room: RoomForCopies) -> None:
        """Round n rows, of squared norms `norms`. One pass; takes 4 bytes a row, and D where there is `room`."""
        self._num_rows = features.num_rows
        sigma = _coordinate_scales(features)
        self.arithmetic = IntegerArithmetic(sigma)
        self._norm = _HALF * float(sigma.norm())
        device = features.device
        width = padded(features.dim)
        sink = room(width, torch.int8)
        self._units = torch.empty(features.num_rows, dtype=torch.float32, device=device)
        inverse = (1.0 / sigma).to(device, torch.float32)
        for rows, chunk in features.chunks():
            sink.fill(rows, partial(_round, chunk, inverse, self._units[rows]))
        self._rounded = sink.finish()
        self.ratio = self._usual_ratio(norms)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """See `RowCopies`."""
        if not isinstance(self._rounded, MemoryFeatures):
            yield from self._rounded.chunks()
            return
        copy = self._rounded.tensor
        step = _chunk_rows(copy)
        for first in range(0, self._num_rows, step):
            rows = slice(first, min(first + step, self._num_rows))
            yield rows, copy[rows]

    def units(self, rows: slice | Tensor) -> Tensor | None:
        """See `RowCopies`."""
        return self._units[rows].to(torch.float64)

    def error_norms(self, rows: slice | Tensor, norms: Tensor) -> Tensor:
        """See `RowCopies`: |x|^2 for most rows, more for those that are rounded by more than the usual share."""
        residuals = self._units[rows].to(torch.float64).mul_(self._norm / self.ratio)
        return torch.maximum(norms, residuals.square_()).mul_((1.0 + self.ratio) ** 2)

    def _usual_ratio(self, norms: Tensor) -> float:
        """Return rho: somewhat more than the median of |x - y| / |x|."""
        some = slice(None, None, max(1, self._num_rows // _SAMPLE))
        sizes, units = norms[some].sqrt(), self._units[some].to(torch.float64)
        ratios = (units * self._norm / sizes)[(sizes > 0) & torch.isfinite(units)]
        if not len(ratios):
            return self._norm  # no row is rounded at all
        return _RATIO_MARGIN * float(ratios.median()) or self._norm


def _coordinate_scales(features: FeatureStore) -> Tensor:
    """Return each coordinate's root mean square over a sample of rows, of norm 1 all together."""
    places = torch.linspace(0, features.num_rows - 1, min(_SAMPLE, features.num_rows), dtype=torch.float64)
    sample = features.rows(places.long()).to("cpu", torch.float64)
    squares = (sample / (float(sample.abs().max()) or 1.0)).square().mean(dim=0)
    least = _LEAST_SCALE * float(squares.mean().sqrt())
    scales = squares.sqrt().clamp_min(least) if least > 0 else torch.ones_like(squares)
    # Numbers of float32: rows are divided by these very numbers.
    return (scales / scales.norm()).to(torch.float32).to(torch.float64)


def _copy(rows: Tensor, out: Tensor) -> None:
    out[:] = rows


def _round(rows: Tensor, inverse: Tensor, units: Tensor, out: Tensor) -> None:
    """Round rows (n x D) over the coordinates' scales to integers in `out`, with zeros up to its width.

    A row too large or too small for float32 becomes zeros with an infinite unit: of it nothing is claimed.
    """
    out[:, rows.shape[1] :] = 0
    for first in range(0, len(rows), _ROUNDED_AT_ONCE if rows.device.type == "cpu" else max(1, len(rows))):
        part = slice(first, first + _ROUNDED_AT_ONCE) if rows.device.type == "cpu" else slice(None)
        scaled = rows[part].to(torch.float32) * inverse
        # Not the largest of absolute values, nor a norm: these take four times as long on a processor.
        largest = torch.maximum(scaled.amax(dim=1), scaled.amin(dim=1).neg_())
        sound = (largest > _SMALLEST) & (largest < _LARGEST)
        scaled.mul_((LEVELS / largest).where(sound, 0.0)[:, None])
        if not bool(sound.all()):
            scaled[~sound] = 0.0
        out[part, : rows.shape[1]] = scaled.round_()
        units[part] = (largest / LEVELS).where(sound, torch.where(largest == 0, 0.0, float("inf")))


def _chunk_rows(copy: Tensor) -> int:
    """Return how many rows are multiplied at once."""
    if copy.is_cuda:
        return max(1, _GPU_CHUNK_BYTES // copy.shape[1])
    return chunk_rows_for(copy.shape[1])
