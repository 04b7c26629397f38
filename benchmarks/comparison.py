"""Every peer on the same pools of growing size, and what its picks are worth.

Each selection runs in a process of its own, with limits on time and memory. Picks are worth what the dense float64
definitions say of them, over picks and targets alone, whoever made them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data import Matrices, write_matrices
from benchmarks.machine import run_bounded
from benchmarks.peers import PEERS, Peer
from benchmarks.settings import PeersSettings
from benchmarks.worker import Answer, WorkerTask
from ray_itl.core.posterior import Targets
from ray_itl.core.reference import condition_kernel, dense_kernel, joint_information
from ray_itl.errors import ConfigError
from ray_itl.experiments.cache import Notify
from ray_itl.io.atomic import write_json
from ray_itl.text import format_size, parse_size

_START_S = 120.0
"""For a process to import and load, on top of its selections."""
_SURE = 2.0
"""A selection that is expected, from a smaller pool, to exceed the time limit so many times is not tried."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Worth:
    """What picks X say about targets A."""

    nats: float
    """I(f_A; y_X), what ITL wants large."""
    variance: float
    """Sum over the targets of their posterior variance, what VTL wants small."""
    prior_variance: float
    """The same before any pick."""

    @property
    def variance_left(self) -> float:
        """The share of the prior variance that is left."""
        return self.variance / self.prior_variance


def worth(picks: Tensor, targets: Tensor, noise_variance: float) -> Worth:
    """Return what n picked rows (n x D, the order does not matter) are worth to M targets (M x D).

    A row that is there twice counts as two observations. O((n + M)^2 D + n (n + M)^2).
    """
    num_picks = len(picks)
    kernel = dense_kernel(picks.double(), Targets.uniform(targets.double()), None, noise_variance)
    nats = joint_information(kernel, range(num_picks, len(kernel)), range(num_picks), noise_variance)
    prior = float(kernel.diagonal()[num_picks:].sum())
    for index in range(num_picks):
        kernel = condition_kernel(kernel, index, noise_variance)
    return Worth(nats, float(kernel.diagonal()[num_picks:].sum()), prior)


@dataclass(frozen=True)
class Measurement:
    """One peer on one pool."""

    peer: str
    num_rows: int
    seconds: float = float("nan")
    """Median over the repeats."""
    extra_bytes: int = 0
    """Peak memory over that with the pool loaded."""
    worth: Worth | None = None
    """None: it did not get there."""
    num_picks: int = 0
    num_distinct: int = 0
    """Different rows among the picks."""
    stopped: str = ""
    """Why there is nothing: what it ran out of, or that it stopped at a smaller pool already."""


@dataclass(frozen=True)
class Comparison:
    """All peers on one data set."""

    matrices: Matrices
    num_rows: list[int]
    measurements: dict[tuple[str, int], Measurement]
    """By peer and number of rows."""

    @property
    def peers(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(name for name, _ in self.measurements))


def run_comparison(settings: PeersSettings, seed: int, folder: Path, notify: Notify) -> list[Comparison]:
    """Measure the chosen peers on every data set.

    Raises:
        InputError: the data cannot be had (says what to do).
        ConfigError: a pool is too small for the picks, or a chosen peer is not installed.
    """
    peers, sizes = _chosen(settings, notify), sorted(settings.num_rows)
    if not sizes:
        return []
    comparisons = []
    for name in settings.data:
        options = (sizes[-1], settings.num_targets, settings.dim, seed)
        matrices = write_matrices(name, *options, folder / "data", notify)
        measured = {}
        for peer in peers:
            row: list[Measurement] = []
            for num_rows in sizes:
                reason = _hopeless(row, num_rows, settings.time_limit_s)
                stopped = Measurement(peer.name, num_rows, stopped=reason)
                row.append(stopped if reason else _measure(peer, matrices, num_rows, settings, folder))
                notify(f"{name}, {num_rows:,} rows, {peer.name}: {row[-1].stopped or f'{row[-1].seconds:.3g} s'}")
            measured |= {(m.peer, m.num_rows): m for m in row}
        comparisons.append(Comparison(matrices, sizes, measured))
    return comparisons


def _chosen(settings: PeersSettings, notify: Notify) -> list[Peer]:
    unknown = [name for name in settings.only if name not in PEERS]
    if unknown:
        raise ConfigError(f"peers.only={unknown[0]!r} is no peer; there are {', '.join(PEERS)}")
    found = []
    for peer in PEERS.values() if not settings.only else (PEERS[name] for name in settings.only):
        if peer.version() is not None:
            found.append(peer)
        elif settings.only:
            raise ConfigError(f'peers.only={peer.name!r} needs {peer.package}: pip install "ray_itl[peers]"')
        else:
            notify(f'{peer.name} is left out: {peer.package} is not installed (pip install "ray_itl[peers]")')
    return found


def _hopeless(earlier: list[Measurement], num_rows: int, limit_s: float) -> str:
    """Say why a larger pool need not be tried, or "": no peer's time grows slower than along a straight line."""
    if earlier and earlier[-1].stopped:
        return "-"
    if len(earlier) < 2:
        return ""
    before, last = earlier[-2:]
    slope = (last.seconds - before.seconds) / (last.num_rows - before.num_rows)
    expected = last.seconds + slope * (num_rows - last.num_rows)
    return f"time: {expected:,.0f} s if linear" if expected > _SURE * limit_s else ""


def _measure(peer: Peer, matrices: Matrices, num_rows: int, settings: PeersSettings, folder: Path) -> Measurement:
    task_path, answer_path = folder / "peer-task.json", folder / "peer-answer.json"
    answer_path.unlink(missing_ok=True)
    threads = settings.num_threads or os.cpu_count() or 1
    task = WorkerTask(
        peer.name, str(matrices.pool), str(matrices.targets), str(answer_path), num_rows, settings.n,
        settings.noise_variance, threads, settings.repeats, settings.time_limit_s,
    )  # fmt: skip
    write_json(task_path, asdict(task))
    limit = parse_size("peers.memory_limit", settings.memory_limit)
    assert limit is not None
    outcome = run_bounded(
        [sys.executable, "-m", "benchmarks.worker", str(task_path)],
        seconds=_START_S + settings.repeats * settings.time_limit_s,
        memory_bytes=limit,
        environment=dict.fromkeys(_THREADS, str(threads)),
    )
    if outcome.ending == "done":
        return _measurement(peer, num_rows, Answer(**json.loads(answer_path.read_text())), matrices, settings)
    limits = {"time": f"time: over {settings.time_limit_s:g} s", "memory": f"memory: over {format_size(limit)}"}
    return Measurement(peer.name, num_rows, stopped=limits.get(outcome.ending, f"error: {outcome.said}"))


def _measurement(peer: Peer, num_rows: int, answer: Answer, matrices: Matrices, settings: PeersSettings) -> Measurement:
    picks, targets = matrices.pool_rows(answer.picks), matrices.target_rows()
    value = worth(torch.from_numpy(picks), torch.from_numpy(targets), settings.noise_variance)
    seconds, counts = statistics.median(answer.seconds), (len(answer.picks), len(set(answer.picks)))
    return Measurement(peer.name, num_rows, seconds, answer.extra_bytes, value, *counts)
