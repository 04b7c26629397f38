"""How fast this machine reads a pool, multiplies, and uses its disk: measured in a second, nothing left behind."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ray_itl.core.store import chunk_rows_for
from ray_itl.io.loading import map_rows
from ray_itl.io.shard_cache import unusable
from ray_itl.problem import Problem

_SAMPLE_BYTES = 32 * 2**20
_DISK_BYTES = 64 * 2**20
_COLUMNS = 32
_VERIFY_OVER_PRODUCT = 1.4
"""A verify pass beside its bare matrix product, in memory (see jobs/benchmark.py)."""
_REPEATS = 3


@dataclass(frozen=True)
class Rates:
    """Speeds of one process on this machine."""

    load_rows: float
    """Rows a second read from the pool and mapped to features."""
    pass_rows: float
    """Rows a second that a verify pass of 16 picks gets through when nothing has to be read."""
    disk_bytes: float | None
    """Bytes a second read from the disk of the cache, where that was asked for."""


def measure_rates(problem: Problem, cache_folder: Path | None) -> Rates:
    """Measure on the first rows of the pool; with a folder, the disk that it is, or would be, on.

    Raises:
        InputError: unreadable or bad rows.
        CacheError: nothing can be written on that disk.
    """
    disk = None if cache_folder is None else _disk_rate(cache_folder)
    return Rates(_load_rate(problem), _pass_rate(problem.dim), disk)


def _load_rate(problem: Problem) -> float:
    source = problem.source
    rows = min(source.num_rows, max(1, _SAMPLE_BYTES // (source.dim * source.dtype.itemsize)))

    def read() -> None:
        for _, batch in source.batches(0, rows):
            map_rows(problem.feature_map, batch).to(torch.float32)

    return rows / _seconds(read)


def _pass_rate(dim: int) -> float:
    rows = torch.ones(chunk_rows_for(dim), dim)
    weights = torch.ones(dim, _COLUMNS)
    best = min(_seconds(lambda: rows @ weights) for _ in range(_REPEATS))
    return len(rows) / (_VERIFY_OVER_PRODUCT * best)


def _disk_rate(folder: Path) -> float:
    """Write a file without a name and read it past the page cache (through it where that does not work)."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    block = mmap.mmap(-1, _DISK_BYTES // 8)
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            for _ in range(8):
                file.write(block)
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            return _DISK_BYTES / _seconds(lambda: [file.readinto(block) for _ in range(8)])
    except OSError as error:
        raise unusable(folder, error) from error


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return max(time.perf_counter() - began, 1e-9)
