"""Bare matrix products and copies of the shapes of a pass, on the CPU or a CUDA device: the line under the engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

FLOAT32, TF32, BFLOAT16, INT8 = "float32", "TF32", "bfloat16", "int8"
_CHUNK_ROWS = 8192
"""Of a product on the CPU: rows that fit its last cache with what they are multiplied by."""
_DEVICE_CHUNK_ROWS = 1 << 18
_INT8_STEPS = 127
_MULTIPLE, _LEAST_ROWS = 16, 32
"""What integer products on CUDA ask for: D and the columns are padded to a multiple."""


def settle(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Products:
    """Some rows as float32, bfloat16 and int8, to be multiplied by any number of columns.

    Takes 3 bytes a number beside the rows. The products are those of torch, of random columns, a chunk at a time, with
    results of the rows' type (bfloat16) or int32 (int8); nothing is done with them.
    """

    def __init__(self, rows: Tensor) -> None:
        """Take rows (N x D float32) on the device to measure."""
        self._rows = rows
        self._device = rows.device
        self._step = _CHUNK_ROWS if rows.device.type == "cpu" else _DEVICE_CHUNK_ROWS
        self._half = torch.empty_like(rows, dtype=torch.bfloat16)
        dim = rows.shape[1]
        self._integers = torch.zeros(len(rows), dim + -dim % _MULTIPLE, dtype=torch.int8, device=rows.device)
        scale = _INT8_STEPS / max(float(rows.abs().max()), torch.finfo(rows.dtype).tiny)
        for part in self._parts():
            self._half[part] = rows[part].to(torch.bfloat16)
            self._integers[part, :dim] = (rows[part] * scale).round_().to(torch.int8)

    @property
    def kinds(self) -> list[str]:
        """What can be measured on the device."""
        return [FLOAT32, *([TF32] if self._device.type == "cuda" else []), BFLOAT16, INT8]

    def flop(self, num_columns: int) -> int:
        """Return the operations of one product: a multiplication and an addition each."""
        return 2 * self._rows.numel() * num_columns

    def seconds(self, kind: str, num_columns: int, repeats: int) -> float:
        """Return the median seconds of one product with all rows, after one that does not count."""
        work = self._work(kind, num_columns)
        with _matrix_precision("high" if kind == TF32 else "highest"):
            return self._median(work, repeats)

    def copy_seconds(self, repeats: int) -> float:
        """Return the median seconds of a copy of all rows as float32: their bytes are read once and written once."""
        target = torch.empty_like(self._rows)
        return self._median(lambda: target.copy_(self._rows), repeats)

    def _work(self, kind: str, num_columns: int) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(0)
        columns = torch.randn(self._rows.shape[1], num_columns, generator=generator)
        if kind == INT8:
            padding = (0, -num_columns % _MULTIPLE, 0, self._integers.shape[1] - self._rows.shape[1])
            integers = torch.nn.functional.pad((columns * 20).round_().to(torch.int8), padding).to(self._device)
            product = torch._int_mm  # type: ignore[attr-defined]
            return lambda: self._multiply(product, self._integers, integers)
        rows = self._half if kind == BFLOAT16 else self._rows
        given = columns.to(self._device, rows.dtype)
        return lambda: self._multiply(torch.mm, rows, given)

    def _multiply(self, product: Callable[[Tensor, Tensor], Tensor], rows: Tensor, columns: Tensor) -> None:
        for part in self._parts():
            product(rows[part], columns)

    def _parts(self) -> Iterator[slice]:
        for start in range(0, len(self._rows), self._step):
            # A last part too small for an integer product on CUDA takes some rows of the one before it along.
            stop = min(start + self._step, len(self._rows))
            yield slice(max(0, min(start, stop - _LEAST_ROWS)), stop)

    def _median(self, work: Callable[[], object], repeats: int) -> float:
        work()
        taken = []
        for _ in range(repeats):
            settle(self._device)
            began = time.perf_counter()
            work()
            settle(self._device)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)


@contextmanager
def _matrix_precision(precision: str) -> Iterator[None]:
    """Let float32 products on CUDA be what they are called, and put back what was set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
