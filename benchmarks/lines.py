"""The lines to beat: faiss and activeft on the same rows as ray_itl, turn by turn in one process.

Turn by turn, so that a slow moment of the machine hits all alike and a ratio means something. faiss only looks for the
nearest rows of the targets, exactly; activeft's retriever picks by VTL among 1,000 rows, with the fastest of its
settings that leaves the picks as they are: all threads, the index made before the time counts, and no search for the
opposite of the targets where that changes nothing. ray_itl is called as users call it, with arrays: loading counts.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import Matrices, write_matrices
from benchmarks.peers import ACTIVEFT, FAISS, ITL, VTL, Problem, flat_index, greedy, retriever, search_by_faiss
from benchmarks.settings import PeersSettings
from ray_itl.api import select
from ray_itl.experiments.cache import Notify

KNN, KNN_N, FLAT = "faiss.knn, nearest of each", "faiss.knn, n nearest of each", "faiss IndexFlatIP, index made before"
RETRIEVER, PLAIN = "activeft Retriever, index made before", "torch, one pass a pick"
_PLAIN_ROWS = 10_000
"""Above so many rows plain torch is no line to beat, and takes minutes."""
OURS = (ITL, VTL)


@dataclass(frozen=True)
class Line:
    """Somebody who takes turns."""

    name: str
    package: str
    """The distribution on PyPI that it needs; "" where that is this project."""
    prepare: Callable[[Problem], Callable[[], Any]]
    """Returns what is timed; what it does itself is not."""
    most_rows: int | None = None


@dataclass(frozen=True)
class LineResult:
    """All who took turns on one pool."""

    num_rows: int
    seconds: dict[str, float]
    """By name: medians over the repeats."""

    def ratio(self, name: str, line: str) -> float:
        """Return the seconds of one as a multiple of another's."""
        return self.seconds[name] / self.seconds[line]


@dataclass(frozen=True)
class LinesOfData:
    """The lines on one data set."""

    matrices: Matrices
    results: list[LineResult]


def _by_select(problem: Problem, rule: str) -> Callable[[], Any]:
    return lambda: (
        select(problem.pool, problem.targets, problem.n, acquisition=rule, noise_variance=problem.noise_variance).ids
    )


def _best_retriever(problem: Problem) -> Callable[[], Any]:
    pick = retriever(problem)
    return partial(pick, {*pick(True)} != {*pick(False)})


LINES = (
    Line(ITL, "", partial(_by_select, rule="itl")),
    Line(KNN, FAISS[0].package, lambda problem: partial(search_by_faiss, problem, 1)),
    Line(RETRIEVER, ACTIVEFT[0].package, _best_retriever),
    Line(VTL, "", partial(_by_select, rule="vtl")),
    Line(KNN_N, FAISS[0].package, lambda problem: partial(search_by_faiss, problem, problem.n)),
    Line(FLAT, FAISS[0].package, flat_index),
    Line(PLAIN, "", lambda problem: partial(greedy, problem), _PLAIN_ROWS),
)


def run_lines(settings: PeersSettings, seed: int, folder: Path, notify: Notify) -> list[LinesOfData]:
    """Let all that are installed take turns, on every data set and number of rows.

    Raises:
        InputError: the data cannot be had (says what to do).
        ConfigError: more targets are asked for than there are.
    """
    if not settings.lines:
        return []
    installed = {peer.package for peer in (*ACTIVEFT, *FAISS) if peer.version() is not None} | {""}
    for line in LINES:
        if line.package not in installed:
            notify(f'{line.name} is left out: {line.package} is not installed (pip install "ray_itl[peers]")')
    sizes, threads = sorted(settings.lines), settings.num_threads or os.cpu_count() or 1
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for name in settings.data:
            most = max([*sizes, *settings.num_rows])
            matrices = write_matrices(name, most, settings.num_targets, settings.dim, seed, folder / "data", notify)
            largest = Problem(
                matrices.pool_rows(list(range(sizes[-1]))), matrices.target_rows(), settings.n,
                settings.noise_variance, threads,
            )  # fmt: skip
            results = []
            for size in sizes:
                chosen = [each for each in LINES if each.package in installed and size <= (each.most_rows or size)]
                problem = replace(largest, pool=largest.pool[:size])
                results.append(LineResult(size, take_turns(chosen, problem, settings.line_repeats)))
                notify(f"{name}, {size:,} rows, turn by turn: {_in_words(results[-1])}")
            found.append(LinesOfData(matrices, results))
    finally:
        torch.set_num_threads(before)
    return found


def take_turns(lines: Sequence[Line], problem: Problem, repeats: int) -> dict[str, float]:
    """Return the median seconds of each by name; a first turn of each does not count."""
    ready = {line.name: line.prepare(problem) for line in lines}
    for work in ready.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for repeat in range(repeats):
        names = list(ready)
        # Each follows another one every time, whose caches and threads it finds.
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            began = time.perf_counter()
            ready[name]()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _in_words(result: LineResult) -> str:
    return ", ".join(f"{name} {seconds:.3g} s" for name, seconds in result.seconds.items())


def lines_tables(found: Sequence[LinesOfData], settings: PeersSettings) -> str:
    """Return the figures of all data sets; below 1.00 ray_itl is the faster one."""
    intro = (
        f"Lines to beat: n = {settings.n:,} picks by `ray_itl.select` from arrays in memory, loading included, beside "
        f"others on the same rows, turn by turn in one process; {settings.num_targets} targets, noise variance "
        f"{settings.noise_variance:g}, medians of {settings.line_repeats}. Ratios are ray_itl's seconds to theirs."
    )
    return "\n\n".join([intro, *(f"### {each.matrices.words}\n\n{_table(each.results)}" for each in found)])


def _table(results: Sequence[LineResult]) -> str:
    lines = ["| N | who | seconds | ITL / it | VTL / it |", "|---|---|---|---|---|"]
    for result in results:
        for name, seconds in result.seconds.items():
            ratios = [f"{result.ratio(own, name):.2f}" for own in OURS]
            lines.append(f"| {result.num_rows:,} | {name} | {seconds:.3g} | {' | '.join(ratios)} |")
    return "\n".join(lines)
