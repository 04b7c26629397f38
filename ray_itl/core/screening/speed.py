"""Which copies this machine multiplies fast: measured once a process, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.messages import Precision
from ray_itl.core.screening.arithmetic import multiply_integers

_ROWS, _DIM, _COLUMNS = 4096, 384, 96
_REPEATS = 12
_PAYS = 1.2


@cache
def integers_are_fast(device: str = "cpu") -> bool:
    """Whether a product of 8-bit integers with thrice the columns takes five sixths of one in float32, or less.

    Thrice, since a column of integers has up to three planes.
    """
    rows = torch.ones(_ROWS, _DIM, dtype=torch.int8, device=device)
    columns = torch.ones(_DIM, 3 * _COLUMNS, dtype=torch.int8, device=device)
    floats, right = rows.to(torch.float32), columns[:, :_COLUMNS].to(torch.float32).contiguous()
    best = [float("inf")] * 2
    for _ in range(
        _REPEATS
    ):  # in turns: what else the machine does for some milliseconds is not held against one alone
        try:
            best[0] = min(best[0], _seconds(lambda: multiply_integers(rows, columns), device))
        except (RuntimeError, AttributeError):  # an old device, or another build of torch
            return False
        best[1] = min(best[1], _seconds(lambda: floats @ right, device))
    return _PAYS * best[0] <= best[1]


def _seconds(work: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


_INTEGER_ROWS, _INTEGER_DIM = 16384, 32
_FLOAT32_LIMIT = 5e-3


def may_pay(num_rows: int, dim: int) -> bool:
    """Whether copies in int8 of so many rows of D numbers may repay making them."""
    return num_rows >= _INTEGER_ROWS and dim >= _INTEGER_DIM


def first_precision(
    num_rows: int,
    dim: int,
    noise_variance: float,
    largest_norm: float,
    may_copy: bool = True,
    integer_noise: float = Acquisition.integer_noise,
) -> Precision:
    """Return what to screen in to begin with.

    Integers where this machine multiplies them faster, the pool is large enough to repay rounding it, and noise is well
    above what rounding hides (about 1.4e-4 of a squared norm; more by some rules): else too many rows stay in doubt.
    float32 where noise is above its own rounding.

    Args:
        num_rows: N.
        dim: D.
        noise_variance: s2.
        largest_norm: Largest |x|^2.
        may_copy: Whether there is memory for copies.
        integer_noise: Of the rule.
    """
    is_loud = noise_variance >= integer_noise * largest_norm
    if may_copy and may_pay(num_rows, dim) and is_loud and integers_are_fast():
        return "int8"
    rounding = 4.0 * dim**0.5 * 2.0**-24
    return "float32" if rounding * largest_norm <= _FLOAT32_LIMIT * noise_variance else "float64"
