"""`ray-itl curate` as a process of its own, timed and watched from outside.

Suite large: seconds of every stage and peak memory on a large Parquet pool. Suite disk: a pool several times larger
than a shard's memory limit picks the same rows; time beside bare reads, and peak memory.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from benchmarks.data import ClusteredRows, write_pool, write_targets
from benchmarks.machine import PeakMemory, largest_peak, tree_memory
from benchmarks.settings import DiskSettings, LargeSettings
from ray_itl.errors import RayItlError
from ray_itl.shards.disk_features import DiskFeatures
from ray_itl.shards.disk_loading import MATRIX
from ray_itl.shards.loading import STORAGE_DTYPES
from ray_itl.text import format_size

_JOB = Path(__file__).parents[1] / "jobs" / "curate.py"
_SHARD, _PROCESS = "ShardActor", "curate.py"
_READS = 3


@dataclass(frozen=True)
class JobRun:
    """What one run of the job took."""

    metrics: dict[str, Any]
    """Its metrics.json."""
    wall_seconds: float
    """The whole process, imports and Ray's start included."""
    peak_bytes: int
    """The largest value of the measure while it ran."""


def run_curate(options: Sequence[str], run: Path, measure: Callable[[int], int], quiet: bool = False) -> JobRun:
    """Run the job, whose run directory is made anew.

    Args:
        options: Its options but for run.dir.
        run: The run directory.
        measure: Bytes of memory now, given the number of the job's process.
        quiet: Whether its summary is not shown.

    Raises:
        RayItlError: the job failed; its messages are above.
    """
    shutil.rmtree(run, ignore_errors=True)
    began = time.perf_counter()
    job = subprocess.Popen(
        [sys.executable, str(_JOB), *options, f"run.dir={run.absolute()}"],
        stdout=subprocess.DEVNULL if quiet else None,
    )
    with PeakMemory(lambda: measure(job.pid)) as memory:
        code = job.wait()
    wall = time.perf_counter() - began
    if code:
        raise RayItlError(f"the run ended with exit code {code}; its messages are above")
    return JobRun(json.loads((run / "metrics.json").read_text()), wall, memory.peak_bytes)


@dataclass(frozen=True)
class StorageRun:
    """One run of the job."""

    ids: list[int | str]
    load_seconds: float
    select_seconds: float
    passes: int
    shard_bytes: int
    """Largest resident memory of the shard's process, which without Ray is that of the whole run."""


@dataclass(frozen=True)
class DiskResult:
    """Figures of the same selection on disk, on disk again, and in memory."""

    limit_bytes: int
    feature_bytes: int
    read_seconds: float
    """One read of the cache in order, with nothing else to do; median."""
    disk: StorageRun
    again: StorageRun
    """With the cache that the first run left."""
    memory: StorageRun

    @property
    def ratio(self) -> float:
        """Seconds of the selection to those of its reads alone, for the better of the two runs on disk."""
        return min(run.select_seconds / (run.passes * self.read_seconds) for run in (self.disk, self.again))

    @property
    def same_picks(self) -> bool:
        """Whether all runs picked the same rows in the same order."""
        return self.disk.ids == self.again.ids == self.memory.ids


def run_disk(settings: DiskSettings, seed: int, folder: Path, notify: Callable[[str], None]) -> DiskResult:
    """Write the pool unless it is there, and run the job with one shard: on disk twice, and in memory.

    Raises:
        RayItlError: the job failed; its messages are above.
    """
    rows = ClusteredRows(settings.dim, seed)
    notify(f"writing {settings.num_rows:,} x {settings.dim} rows to {folder / 'data'}, unless they are there")
    options = [
        f"pool.path={write_pool(rows, settings.num_rows, folder / 'data')}",
        f"target.path={write_targets(rows, settings.num_targets, folder / 'data')}",
        *(f"selection.n={settings.n}", f"acquisition.noise_variance={settings.noise_variance}"),
        *(f"pool.dtype={settings.dtype}", f"cluster.num_shards={settings.num_shards}", "run.report=false"),
    ]
    dtype = STORAGE_DTYPES[settings.dtype]
    feature_bytes = settings.num_rows * settings.dim * dtype.itemsize
    limit, cache = int(feature_bytes / settings.times_memory), folder / "disk-cache"
    shutil.rmtree(cache, ignore_errors=True)
    bounded = [*options, f"cluster.memory_per_shard={limit}", f"cluster.cache_dir={cache}"]
    disk = _run("disk", bounded, folder, notify)
    again = _run("disk again", bounded, folder, notify)
    read_seconds = _read_seconds(cache, settings, dtype)
    shutil.rmtree(cache)
    memory = _run("memory", [*options, "pool.storage=memory"], folder, notify)
    return DiskResult(limit, feature_bytes, read_seconds, disk, again, memory)


def _run(name: str, options: list[str], folder: Path, notify: Callable[[str], None]) -> StorageRun:
    notify(f"selecting: {name}")
    run, process = folder / "disk-run", _PROCESS if "cluster.num_shards=0" in options else _SHARD
    done = run_curate(options, run, lambda pid: largest_peak(pid, process), quiet=True)
    ids = pq.read_table(run / "selection.parquet").column("id").to_pylist()
    seconds = done.metrics["seconds"]
    return StorageRun(ids, seconds["load"], seconds["select"], done.metrics["passes"], done.peak_bytes)


def _read_seconds(cache: Path, settings: DiskSettings, dtype: torch.dtype) -> float:
    (matrix,) = cache.glob(f"*/{MATRIX}")
    seconds = []
    for _ in range(_READS):
        began = time.perf_counter()
        for _ in DiskFeatures(matrix, settings.num_rows, settings.dim, dtype).chunks():
            pass
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def disk_table(result: DiskResult, settings: DiskSettings) -> str:
    """Return the figures as a Markdown table."""
    rate = result.feature_bytes / result.read_seconds / 1e9
    runs = {"disk": result.disk, "disk, cache there already": result.again, "memory": result.memory}
    return "\n".join(
        [
            f"A pool {settings.times_memory:g} times a shard's memory limit: {settings.num_rows:,} x {settings.dim} "
            f"{settings.dtype} ({format_size(result.feature_bytes)}), limit {format_size(result.limit_bytes)}, n = "
            f"{settings.n:,}, noise variance {settings.noise_variance:g}, cluster.num_shards={settings.num_shards}. "
            f"The cache is read in "
            f"{result.read_seconds:.2f} s ({rate:.2f} GB/s). Selecting takes {result.ratio:.2f} times as long as its "
            f"reads alone. Same picks: {'yes' if result.same_picks else 'no'}.",
            "",
            "| features | load, seconds | select, seconds | passes | select / (passes x read) | peak memory |",
            "|---|---|---|---|---|---|",
            *(
                f"| {name} | {run.load_seconds:.1f} | {run.select_seconds:.1f} | {run.passes} "
                f"| {run.select_seconds / (run.passes * result.read_seconds):.2f} | {format_size(run.shard_bytes)} |"
                for name, run in runs.items()
            ),
        ]
    )


@dataclass(frozen=True)
class LargeResult:
    """Figures of one run."""

    stages: dict[str, float]
    """Seconds of each stage, as metrics.json has them."""
    passes: int
    wall_seconds: float
    """The whole process, imports and Ray's start included."""
    peak_bytes: int
    """Largest memory of the job and all its processes."""


def run_large(settings: LargeSettings, seed: int, folder: Path, notify: Callable[[str], None]) -> LargeResult:
    """Write the pool unless it is there, run the job on it in a process of its own, and watch its memory.

    Raises:
        RayItlError: the job failed; its messages are above.
    """
    rows = ClusteredRows(settings.dim, seed)
    notify(f"writing {settings.num_rows:,} x {settings.dim} rows to {folder / 'data'}, unless they are there")
    pool = write_pool(rows, settings.num_rows, folder / "data")
    target = write_targets(rows, settings.num_targets, folder / "data")
    options = [
        *(f"pool.path={pool}", f"target.path={target}", f"selection.n={settings.n}"),
        *(f"acquisition.noise_variance={settings.noise_variance}", f"cluster.num_shards={settings.num_shards}"),
        *settings.options,
    ]
    done = run_curate(options, folder / "large-run", tree_memory)
    return LargeResult(done.metrics["seconds"], done.metrics["passes"], done.wall_seconds, done.peak_bytes)


def large_table(result: LargeResult, settings: LargeSettings) -> str:
    """Return the figures as a Markdown table."""
    stages = [*result.stages.items(), ("whole process", result.wall_seconds)]
    options = " ".join([f"cluster.num_shards={settings.num_shards}", *settings.options])
    return "\n".join(
        [
            f"`ray-itl curate` from Parquet: {settings.num_rows:,} x {settings.dim} float32, {settings.num_targets} "
            f"targets, n = {settings.n:,}, {options}: {result.passes} passes, peak memory "
            f"{result.peak_bytes / 2**30:.1f} GiB over all processes.",
            "",
            "| stage | seconds |",
            "|---|---|",
            *(f"| {name} | {seconds:.1f} |" for name, seconds in stages),
        ]
    )
