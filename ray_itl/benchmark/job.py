"""jobs/curate.py as a process of its own, timed and watched from outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_itl.benchmark.machine import PeakMemory
from ray_itl.errors import RayItlError

_JOB = Path(__file__).parents[2] / "jobs" / "curate.py"


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
        raise RayItlError(f"jobs/curate.py ended with exit code {code}; its messages are above")
    return JobRun(json.loads((run / "metrics.json").read_text()), wall, memory.peak_bytes)
