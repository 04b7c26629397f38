"""A matrix in a file: safetensors of one tensor, its data aligned so that disks can be read past the page cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

ALIGNMENT = 4096
"""Offsets and sizes of direct reads are multiples of this on every common disk and filesystem."""
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_FLUSH_BYTES = 256 << 20


def matrix_header(num_rows: int, dim: int, dtype: torch.dtype) -> bytes:
    """Return what stands before the data: the length of a JSON text, and the text, padded to the alignment."""
    size = num_rows * dim * dtype.itemsize
    tensor = {"dtype": _NAMES[dtype], "shape": [num_rows, dim], "data_offsets": [0, size]}
    text = json.dumps({"features": tensor}).encode()
    length = -(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8
    return length.to_bytes(8, "little") + text.ljust(length)


class MatrixWriter:
    """Writes a matrix row by row; the space for all of it is taken at once, so that a full disk shows at the start.

    A context manager, which closes the file.
    """

    def __init__(self, path: Path, num_rows: int, dim: int, dtype: torch.dtype) -> None:
        """Create the file. OSError where it exists or there is no space."""
        header = matrix_header(num_rows, dim, dtype)
        self._size = len(header) + num_rows * dim * dtype.itemsize
        self._file = path.open("xb", buffering=0)
        self._flushed = 0
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, self._size)
            self._write(header)
        except BaseException:
            self._file.close()
            raise

    def append(self, rows: Tensor) -> None:
        """Write the next rows (k x D of the matrix's type, on the CPU). OSError if that fails."""
        self._write(rows.contiguous().view(torch.uint8).numpy().data)
        if self._file.tell() - self._flushed >= _FLUSH_BYTES:
            self._flush()

    def finish(self) -> None:
        """Make the file durable; every row must have been written."""
        assert self._file.tell() == self._size, f"wrote {self._file.tell()} of {self._size} bytes"
        self._flush()

    def __enter__(self) -> MatrixWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        left = memoryview(data).cast("B")
        while len(left):
            left = left[self._file.write(left) :]

    def _flush(self) -> None:
        """Write out, and let go of, what the system has buffered: under a memory limit it would count as ours."""
        os.fsync(self._file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._flushed = self._file.tell()
