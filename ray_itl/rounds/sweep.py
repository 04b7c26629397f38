"""The same fine-tuning by several rules and seeds, and what comparing them says."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.console import Silence
from ray_itl.observability.reporter import Reporter
from ray_itl.report.learning_data import LearningCurve, LearningRow
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner

Member = tuple[str, int]
"""A variant's name and a seed."""


def run_sweep(
    members: Mapping[Member, FineTuneSettings],
    folder: Path,
    num_processes: int,
    reporter: Reporter,
) -> pa.Table:
    """Carry out every member in a run directory of its own and gather the learning curves.

    Members that are finished are not run again. Each member computes on one thread, in one of `num_processes`
    processes, so results do not depend on how many there are.

    Args:
        members: Settings of every variant and seed, with distinct run directories.
        folder: Where learning_curves.parquet goes.
        num_processes: Members at a time.
        reporter: Told about every member that is done, and of what it warned.

    Returns:
        The curves of all members: columns variant, seed, and those of a run's learning_curves.parquet.
    """
    context = multiprocessing.get_context("spawn")
    tables = []
    with ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with_parent) as processes:
        running = {member: processes.submit(_run_member, settings) for member, settings in members.items()}
        for done, ((variant, seed), future) in enumerate(running.items(), start=1):
            curves, warnings = future.result()
            tables.append(with_member(curves, (variant, seed)))
            reporter.info(f"{done} of {len(members)}: {variant}, seed {seed}")
            if warnings:
                more = f" (and {len(warnings) - 1:,} more, in its status.json)" if len(warnings) > 1 else ""
                reporter.warn(f"{variant}, seed {seed}: {warnings[0]}{more}")
    table = pa.concat_tables(tables, promote_options="permissive")
    write_parquet_table(folder / "learning_curves.parquet", table)
    return table


def with_member(curves: pa.Table, member: Member) -> pa.Table:
    """Return a run's curves with the columns variant and seed in front."""
    for name, value in zip(("seed", "variant"), reversed(member), strict=True):
        curves = curves.add_column(0, name, pa.array([value] * len(curves)))
    return curves


def mean_curves(table: pa.Table, score: str) -> list[LearningCurve]:
    """Average a sweep's curves over seeds, variants in order of appearance; errors are nan with one seed.

    Args:
        table: As `run_sweep` returns it; every seed of a variant has the same rounds.
        score: Column to average, such as "heldout.accuracy".
    """
    columns = {name: table.column(name).to_numpy() for name in ("seed", "round", "num_labelled", "num_on_task", score)}
    variants = table.column("variant").to_pylist()
    curves = []
    for variant in dict.fromkeys(variants):
        rows = np.flatnonzero(np.array(variants, dtype=object) == variant)
        rounds = np.unique(columns["round"][rows])
        by_round = [rows[columns["round"][rows] == number] for number in rounds]
        score_mean, score_error = _mean_and_error([columns[score][r] for r in by_round])
        found, found_error = _mean_and_error([columns["num_on_task"][r] for r in by_round])
        labelled = np.array([columns["num_labelled"][r[0]] for r in by_round])
        seeds = len(np.unique(columns["seed"][rows]))
        curves.append(
            LearningCurve(
                name=variant,
                num_labelled=labelled,
                score=score_mean,
                on_task=found,
                score_error=score_error,
                on_task_error=found_error,
                num_seeds=seeds,
            )
        )
    return curves


def standings(curves: Sequence[LearningCurve], reference: str, higher_is_better: bool) -> list[LearningRow]:
    """Return how every variant ended, beside the reference variant's end (where there is one of that name)."""
    against = next((curve for curve in curves if curve.name == reference), None)
    return [_ending(curve, against, 1 if higher_is_better else -1) for curve in curves]


def standings_table(found: Sequence[LearningRow], score: str, reference: str, num_seeds: int, budget: int) -> str:
    """Return how the variants of a sweep ended as a Markdown table."""
    lines = [
        f"After {budget:,} labels, {num_seeds} seeds, mean ± standard error:",
        "",
        f"| rule | {score} | picks on task | labels to reach the end of {reference} | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        needed = "never" if row.labels_needed is None else f"{row.labels_needed:,}"
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(
            f"| {row.name} | {row.score:.4f} ± {row.score_error:.4f} | {row.on_task:.1f} ± {row.on_task_error:.1f} "
            f"| {needed} | {ratio} |"
        )
    return "\n".join(lines)


def _ending(curve: LearningCurve, against: LearningCurve | None, sign: int) -> LearningRow:
    needed = None
    if against is not None:
        reached = np.flatnonzero(sign * curve.score >= sign * against.score[-1])
        needed = int(curve.num_labelled[reached[0]]) if len(reached) else None
    ratio = float(against.num_labelled[-1] / needed) if against is not None and needed else None
    return LearningRow(
        curve.name,
        float(curve.score[-1]),
        _last(curve.score_error),
        float(curve.on_task[-1]),
        _last(curve.on_task_error),
        needed,
        ratio,
    )


def _last(errors: np.ndarray | None) -> float:
    return float("nan") if errors is None else float(errors[-1])


def _end_with_parent() -> None:
    """End this process when the sweep's is killed: it would go on beside the one that resumes the sweep."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in the sweep's workers"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_member(settings: FineTuneSettings) -> tuple[pa.Table, list[str]]:
    """Return a member's curves, and what it warned of: the sweep tells it, in the form of log that it has."""
    torch.set_num_threads(1)
    reporter = Reporter(renderer=Silence())
    return ActiveFineTuner(settings, reporter).run().curves, reporter.warnings


def _mean_and_error(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    means = np.array([group.mean() for group in groups])
    errors = [group.std(ddof=1) / len(group) ** 0.5 if len(group) > 1 else float("nan") for group in groups]
    return means, np.array(errors)
