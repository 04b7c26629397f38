"""A whole run of jobs/curate.py on a large Parquet pool: seconds of every stage and peak memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray_itl.benchmark.data import ClusteredRows, write_pool, write_targets
from ray_itl.benchmark.job import run_curate
from ray_itl.benchmark.machine import tree_memory
from ray_itl.benchmark.settings import LargeSettings


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


def run_large(settings: LargeSettings, seed: int, folder: Path, say: Callable[[str], None]) -> LargeResult:
    """Write the pool unless it is there, run the job on it in a process of its own, and watch its memory.

    Raises:
        RayItlError: the job failed; its messages are above.
    """
    rows = ClusteredRows(settings.dim, seed)
    say(f"writing {settings.num_rows:,} x {settings.dim} rows to {folder / 'data'}, unless they are there")
    pool = write_pool(rows, settings.num_rows, folder / "data")
    target = write_targets(rows, settings.num_targets, folder / "data")
    options = [
        *(f"pool.path={pool}", f"target.path={target}", f"selection.n={settings.n}"),
        *(f"acquisition.noise_variance={settings.noise_variance}", f"cluster.num_shards={settings.num_shards}"),
    ]
    done = run_curate(options, folder / "large-run", tree_memory)
    return LargeResult(done.metrics["seconds"], done.metrics["passes"], done.wall_seconds, done.peak_bytes)


def large_table(result: LargeResult, settings: LargeSettings) -> str:
    """Return the figures as a Markdown table."""
    stages = [*result.stages.items(), ("whole process", result.wall_seconds)]
    return "\n".join(
        [
            f"jobs/curate.py from Parquet: {settings.num_rows:,} x {settings.dim} float32, {settings.num_targets} "
            f"targets, n = {settings.n:,}, cluster.num_shards={settings.num_shards}: {result.passes} passes, peak "
            f"memory {result.peak_bytes / 2**30:.1f} GiB over all processes.",
            "",
            "| stage | seconds |",
            "|---|---|",
            *(f"| {name} | {seconds:.1f} |" for name, seconds in stages),
        ]
    )
