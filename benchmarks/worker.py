"""The process in which one peer picks: `python -m benchmarks.worker TASK.json`.

It ends with exit code 0 and the answer in the file that the task names; or by its own alarm, when a selection takes
longer than the task allows.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import forget_peak, peak_memory, resident_memory
from benchmarks.peers import PEERS, Peer, Problem
from ray_itl.io.atomic import write_json

_REPEAT_BELOW_S = 10.0


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is to do."""

    peer: str
    pool: str
    """A .npy file of float32 rows, of which the first `num_rows` are the pool."""
    targets: str
    """A .npy file of float32 rows."""
    answer: str
    """Where to write the answer."""
    num_rows: int
    n: int
    noise_variance: float
    num_threads: int
    repeats: int
    """How often to select, as long as that takes less than ten seconds."""
    time_limit_s: float
    """For one selection."""


@dataclass(frozen=True)
class Answer:
    """What a worker found."""

    picks: list[int]
    seconds: list[float]
    """Of each selection."""
    extra_bytes: int
    """Peak of resident memory while selecting, less what it was before, with all loaded and a selection from few rows
    done."""


def solve(task: WorkerTask) -> Answer:
    """Load, select, measure."""
    torch.set_num_threads(task.num_threads)
    peer, problem = PEERS[task.peer], _load(task)
    for module in peer.modules:
        importlib.import_module(module)
    # What libraries do once in a process, such as starting threads, is no part of a selection.
    _select(peer, replace(problem, pool=problem.pool[: 2 * task.n]), task.time_limit_s)
    baseline = resident_memory()
    forget_peak()
    picks, seconds = _select(peer, problem, task.time_limit_s)
    extra = max(peak_memory() - baseline, 0)
    times = [seconds]
    while len(times) < task.repeats and seconds < _REPEAT_BELOW_S:
        times.append(_select(peer, problem, task.time_limit_s)[1])
    return Answer(picks, times, extra)


def _load(task: WorkerTask) -> Problem:
    pool = np.load(task.pool, mmap_mode="r", allow_pickle=False)[: task.num_rows]
    # Copies: what is read through a mapping would count as memory of whoever reads it first.
    return Problem(
        np.array(pool), np.load(task.targets, allow_pickle=False), task.n, task.noise_variance, task.num_threads
    )


def _select(peer: Peer, problem: Problem, limit_s: float) -> tuple[list[int], float]:
    torch.manual_seed(0)  # some peers shuffle
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    began = time.perf_counter()
    picks = [int(index) for index in peer.select(problem)]
    seconds = time.perf_counter() - began
    signal.setitimer(signal.ITIMER_REAL, 0)
    return picks, seconds


def main(path: str) -> None:
    """Carry out the task in a file."""
    task = WorkerTask(**json.loads(Path(path).read_text()))
    write_json(task.answer, asdict(solve(task)))


if __name__ == "__main__":
    main(sys.argv[1])
