"""How fast this machine loads rows, passes over them and reads its disk, for plans."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ray_itl.core.feature_store import chunk_rows_for
from ray_itl.curation.problem import Problem
from ray_itl.embedding.survey import EmbeddingSurvey
from ray_itl.shards.cache import ShardCache
from ray_itl.shards.conversion import map_rows
from ray_itl.sources.bad_rows import REMEDY, BadRows

_SAMPLE_BYTES = 32 * 2**20


_DISK_BYTES = 64 * 2**20


COLUMNS = 32
"""Of the product that a pass is judged by: two for each of 16 picks."""


_VERIFY_OVER_PRODUCT = 1.4
"""A verify pass beside its bare matrix product, in memory (see benchmarks/__main__.py)."""


_REPEATS = 3


@dataclass(frozen=True)
class Rates:
    """Speeds of one process on this machine."""

    load_rows: float
    """Rows a second read from the pool and mapped to features, or looked up among those embedded before."""
    pass_rows: float
    """Rows a second that a verify pass of 16 picks gets through when nothing has to be read."""
    disk_bytes: float | None
    """Bytes a second read from the disk of the cache, where that was asked for."""


def measure_rates(
    problem: Problem, cache_folder: Path | None, may_be_bad: bool = False, embedding: EmbeddingSurvey | None = None
) -> Rates:
    """Measure on the first rows of the pool; with a folder, the disk that it is, or would be, on.

    Of rows that are embedded `embedding` tells how fast they are read.

    Raises:
        InputError: unreadable rows, or bad ones unless they `may_be_bad`.
        CacheError: nothing can be written on that disk.
    """
    disk = None if cache_folder is None else _disk_rate(cache_folder)
    loading = _load_rate(problem, may_be_bad) if embedding is None else embedding.read_rows
    return Rates(loading, _pass_rate(problem.dim), disk)


def _load_rate(problem: Problem, may_be_bad: bool) -> float:
    source = problem.source
    rows = min(source.num_rows, max(1, _SAMPLE_BYTES // (source.dim * source.dtype.itemsize)))

    def read() -> None:
        for _, batch in source.batches(0, rows, bad):
            map_rows(problem.feature_map, batch).to(torch.float32)

    bad = BadRows()
    seconds = _seconds(read)
    bad = bad.without(problem.excluded)
    if len(bad) and not may_be_bad:
        raise bad.refusal(source.locate, REMEDY)
    return rows / seconds


def _pass_rate(dim: int) -> float:
    rows = torch.ones(chunk_rows_for(dim), dim)
    weights = torch.ones(dim, COLUMNS)
    best = min(_seconds(lambda: rows @ weights) for _ in range(_REPEATS))
    return len(rows) / (_VERIFY_OVER_PRODUCT * best)


def _disk_rate(folder: Path) -> float:
    """Write a file without a name and read it past the page cache (through it where that does not work)."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    block = mmap.mmap(-1, _DISK_BYTES // 8)
    with ShardCache(folder).guard(), tempfile.TemporaryFile(dir=there, buffering=0) as file:
        for _ in range(8):
            file.write(block)
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        return _DISK_BYTES / _seconds(lambda: [file.readinto(block) for _ in range(8)])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return max(time.perf_counter() - began, 1e-9)
