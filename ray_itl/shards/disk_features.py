"""Features of a shard in a file: written once, then read in order ahead of the computation, or row by row.

The file is safetensors of one tensor, its data aligned so that disks can be read past the page cache.
"""

from __future__ import annotations

import json
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import chunk_rows_for, chunk_slices
from ray_itl.errors import CacheError
from ray_itl.shards.huge_pages import buffer_of

ALIGNMENT = 4096
"""Offsets and sizes of direct reads are multiples of this on every common disk and filesystem."""
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
}
_FLUSH_BYTES = 256 << 20
_BUFFERS = 4
_READERS = 2
_ROW_READERS = 16


def matrix_header(num_rows: int, dim: int, dtype: torch.dtype) -> bytes:
    """Return what stands before the data: the length of a JSON text, and the text, padded to the alignment."""
    size = num_rows * dim * dtype.itemsize
    tensor = {"dtype": _NAMES[dtype], "shape": [num_rows, dim], "data_offsets": [0, size]}
    text = json.dumps({"features": tensor}).encode()
    length = -(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8
    return length.to_bytes(8, "little") + text.ljust(length)


class MatrixWriter:
    """Writes a matrix, its rows in any order, also by several threads at a time.

    The space for all of it is taken at once, so that a full disk shows at the start. A context manager, which closes
    the file.
    """

    def __init__(self, path: Path, num_rows: int, dim: int, dtype: torch.dtype) -> None:
        """Create the file.

        Raises:
            OSError: it exists, or there is no space.
        """
        header = matrix_header(num_rows, dim, dtype)
        self._data, self._row_bytes = len(header), dim * dtype.itemsize
        self._size = self._data + num_rows * self._row_bytes
        self._file = path.open("xb", buffering=0)
        self._lock = threading.Lock()
        self._written = self._flushed = 0
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, self._size)
            self._write(header, 0)
        except BaseException:
            self._file.close()
            raise

    def put(self, rows: slice, features: Tensor) -> None:
        """Write some rows, each once (k x D of the matrix's type, on the CPU).

        Raises:
            OSError: that failed.
        """
        self._write(features.contiguous().view(torch.uint8).numpy().data, self._data + rows.start * self._row_bytes)

    def finish(self) -> None:
        """Make the file durable; every row must have been written."""
        assert self._written == self._size, f"wrote {self._written} of {self._size} bytes"
        self._flush()

    def __enter__(self) -> MatrixWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, data: bytes | memoryview, offset: int) -> None:
        left = memoryview(data).cast("B")
        while len(left):
            written = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[written:], offset + written
        with self._lock:
            self._written += len(data) if isinstance(data, bytes) else data.nbytes
            if self._written - self._flushed >= _FLUSH_BYTES:
                self._flush()

    def _flush(self) -> None:
        """Write out, and let go of, what the system has buffered: under a memory limit it would count as ours."""
        os.fsync(self._file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._flushed = self._written


class DiskFeatures:
    """Features in a file that `MatrixWriter` wrote (see `FeatureStore`).

    Explicit reads into a few buffers rather than a memory map: the pages of a map count as memory of the process.
    Where the filesystem allows it they are direct reads, which leave the page cache alone and cost no copying, so that
    the processor is free to compute meanwhile. Measured over 2 GiB: 0.2 s of processor time, against 0.5 to 1 s with
    buffered reads and 2 GiB of resident memory with a map.

    Memory: 4 chunks while a pass runs, none between passes.
    """

    def __init__(
        self,
        path: Path,
        num_rows: int,
        dim: int,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
        lease: object = None,
    ) -> None:
        """Open the file. `lease` is whatever keeps others from removing it, held as long as this object lives.

        Raises:
            CacheError: it cannot be opened, or is not a whole matrix of this shape and type.
        """
        self.num_rows = num_rows
        self.dim = dim
        self.dtype = dtype
        self.device = torch.device(device)
        self._path = path
        self._lease = lease
        self._row_bytes = dim * dtype.itemsize
        header = matrix_header(num_rows, dim, dtype)
        self._data = len(header)
        try:
            self._rows_file = _open(self, path, os.O_RDONLY)
            whole = os.fstat(self._rows_file).st_size == self._data + num_rows * self._row_bytes
            if not whole or os.pread(self._rows_file, self._data, 0) != header:
                raise CacheError(f"cache file {path} is damaged: delete its folder")
            self._chunk_file = self._open_direct()
        except OSError as error:
            raise self._unreadable(error) from error
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._rows_file, 0, 0, os.POSIX_FADV_RANDOM)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield every row once, in order; the next chunks are read meanwhile by threads.

        Raises:
            CacheError: the file can no longer be read.
        """
        slices = chunk_slices(self.num_rows, self.dim)
        size = chunk_rows_for(self.dim) * self._row_bytes + 2 * ALIGNMENT
        buffers = [buffer_of(size) for _ in range(_BUFFERS)]
        with ThreadPoolExecutor(_READERS) as readers:
            # Buffers come first: when they run out, no slice has been taken in vain.
            ahead = deque((buffer, readers.submit(self._read, rows, buffer)) for buffer, rows in zip(buffers, slices))  # noqa: B905
            while ahead:
                buffer, reading = ahead.popleft()
                rows, chunk = reading.result()
                yield rows, chunk.to(self.device)
                following = next(slices, None)
                if following is not None:
                    ahead.append((buffer, readers.submit(self._read, following, buffer)))

    def rows(self, indices: Tensor) -> Tensor:
        """Return the rows at some indices; adjacent ones are read together.

        Raises:
            CacheError: the file can no longer be read.
        """
        wanted = indices.cpu().numpy()
        order = np.argsort(wanted, kind="stable")
        found = torch.empty(len(wanted), self.dim, dtype=self.dtype)
        runs = np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted[order]) != 1) + 1)
        space = found.view(torch.uint8).numpy().reshape(-1).data if len(wanted) else memoryview(b"")

        def read(part: list[np.ndarray]) -> None:
            for run in part:
                target = space[int(run[0]) * self._row_bytes : (int(run[-1]) + 1) * self._row_bytes]
                self._fill(self._rows_file, target, len(target), int(wanted[order[run[0]]]) * self._row_bytes)

        with ThreadPoolExecutor(_ROW_READERS) as readers:
            step = max(16, -(-len(runs) // _ROW_READERS))
            parts = [runs[first : first + step] for first in range(0, len(runs) if len(wanted) else 0, step)]
            list(readers.map(read, parts))
        result = torch.empty_like(found)
        result[torch.from_numpy(order)] = found
        return result.to(self.device)

    def _read(self, rows: slice, buffer: mmap.mmap) -> tuple[slice, Tensor]:
        """Fill a buffer from an aligned offset, and return the rows as a view of it."""
        begin = rows.start * self._row_bytes
        lead, count = begin % ALIGNMENT, rows.stop - rows.start
        need = lead + count * self._row_bytes
        space = memoryview(buffer)[: -(-need // ALIGNMENT) * ALIGNMENT]
        self._fill(self._chunk_file, space, need, begin - lead)
        flat = torch.frombuffer(buffer, dtype=self.dtype, count=count * self.dim, offset=lead)
        return rows, flat.view(count, self.dim)

    def _fill(self, file: int, space: memoryview, need: int, offset: int) -> None:
        """Read at least `need` bytes of the data from an offset."""
        got = 0
        while got < need:
            try:
                read = os.preadv(file, [space[got:]], self._data + offset + got)
            except OSError as error:
                raise self._unreadable(error) from error
            if not read:
                raise self._unreadable(EOFError("it was cut short"))
            got += read

    def _open_direct(self) -> int:
        """Open the file past the page cache, or through it where that does not work (tmpfs, some network mounts)."""
        try:
            file = _open(self, self._path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
            os.preadv(file, [mmap.mmap(-1, ALIGNMENT)], 0)
        except OSError:
            return _open(self, self._path, os.O_RDONLY)
        return file

    def _unreadable(self, error: Exception) -> CacheError:
        return CacheError(
            f"cache file {self._path} cannot be read ({error}): run the same command again to continue, on a sound "
            "disk (cluster.cache_dir) or with pool.storage=memory"
        )


def _open(owner: DiskFeatures, path: Path, flags: int) -> int:
    """Open a file for as long as its owner lives."""
    file = os.open(path, flags)
    weakref.finalize(owner, os.close, file)
    return file
