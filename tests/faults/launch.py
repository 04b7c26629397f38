"""A job with a plan of faults, in a process of its own: `python -m tests.faults.launch PLAN.json JOB.py OPTIONS`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from ray_itl.core import greedy
from ray_itl.core.block_schedule import BlockSchedule
from tests.faults.injection import Injection, Plan

SMALL_BLOCKS = BlockSchedule(block=8, candidates=512, max_block=12, max_candidates=1024)


def launch(plan: Plan | None, job: str, options: list[str], count_to: str = "") -> None:
    """Run a job as its command line would, but in many small blocks; the number of operations goes to a file."""
    greedy.Schedule = lambda: SMALL_BLOCKS  # type: ignore[misc, assignment]
    injection = None if plan is None else Injection(plan)
    if injection is not None:
        injection.install()
    sys.argv = [job, *options]
    try:
        runpy.run_path(job, run_name="__main__")
    finally:
        if injection is not None and count_to:
            Path(count_to).write_text(str(injection.count))


if __name__ == "__main__":
    launch(Plan.from_json(Path(sys.argv[1]).read_text()), sys.argv[2], sys.argv[3:])
