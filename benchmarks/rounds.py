"""Seconds of a fine-tuning round by stage: trained in this process, by a fresh Ray Train run, by long-lived workers."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks.settings import RoundsSettings
from ray_itl.cluster.connection import connect
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.experiments.tasks import Task, digits_task
from ray_itl.rounds.group_settings import DataSettings, ModelSettings, RoundSettings, RuleSettings, TuningRunSettings
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.trainer_settings import TrainerSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.settings import TrainingSettings

KINDS = ("local", "ray", "ray_long_lived")
STAGES = ("embed", "select", "prepare", "train")


@dataclass(frozen=True)
class RoundsResult:
    """Seconds of one trainer's rounds."""

    kind: str
    first: dict[str, float]
    """By stage, of the first round, in which processes start."""
    later: dict[str, float]
    """By stage, medians over all later rounds of all repeats."""
    wall_seconds: float
    """Median of whole runs, start and end of processes included."""
    final_score: float


def run_rounds(settings: RoundsSettings, seed: int, folder: Path, notify: Callable[[str], None]) -> list[RoundsResult]:
    """Fine-tune on digits with every trainer in turn, `repeats` times; picks and scores must be the same.

    Raises:
        InputError: scikit-learn is not installed.
        AssertionError: trainers disagree.
    """
    task = digits_task(folder / "data", seed)
    tables: dict[str, list[tuple[pa.Table, float]]] = {kind: [] for kind in KINDS}
    with connect():
        for repeat in range(settings.repeats):
            for kind in KINDS:
                notify(f"{kind}: repeat {repeat + 1} of {settings.repeats}")
                tables[kind].append(_timed_run(settings, task, seed, kind, folder / "rounds-run"))
    found = [_result(kind, tables[kind]) for kind in KINDS]
    assert len({result.final_score for result in found}) == 1, "trainers must give the same scores"
    return found


def _timed_run(settings: RoundsSettings, task: Task, seed: int, kind: str, folder: Path) -> tuple[pa.Table, float]:
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    curves = ActiveFineTuner(_settings(settings, task, seed, kind, folder)).run().curves
    return curves, time.perf_counter() - began


def _settings(settings: RoundsSettings, task: Task, seed: int, kind: str, folder: Path) -> FineTuneSettings:
    return FineTuneSettings(
        data=DataSettings(
            pool=str(task.pool),
            target=str(task.target),
            heldout=str(task.heldout),
            raw_column=task.input_column,
            label_column=task.label_column,
            classes=list(task.classes),
        ),
        model=ModelSettings("mlp", {"input_dim": 64, "hidden": [64], "classes": 3}, start="fresh"),
        acquisition=RuleSettings("itl", noise_variance=0.1),
        rounds=RoundSettings(count=settings.count, batch=settings.batch, seed=seed),
        training=TrainingSettings(epochs=40, batch_size=32, learning_rate=3e-3),
        trainer=TrainerSettings(kind, cpus_per_worker=0.5),
        # The pool in this process, where one round differs from the next by its trainer alone.
        cluster=ClusterSettings(num_shards=0),
        run=TuningRunSettings(str(folder), log="quiet", report=False),
    )


def _result(kind: str, runs: list[tuple[pa.Table, float]]) -> RoundsResult:
    rows = [curves.to_pylist()[1:] for curves, _ in runs]  # row 0 is the model before any training
    first, later = [table[0] for table in rows], [row for table in rows for row in table[1:]]
    score = rows[0][-1]["heldout.accuracy"]
    return RoundsResult(kind, _medians(first), _medians(later), statistics.median(s for _, s in runs), score)


def _medians(rows: list[dict]) -> dict[str, float]:
    return {stage: statistics.median(row[f"seconds.{stage}"] for row in rows) for stage in STAGES}


def rounds_table(results: list[RoundsResult], settings: RoundsSettings) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"Rounds: {settings.count} of {settings.batch} digits, medians of {settings.repeats} runs, the same picks and "
        "scores by every trainer. Seconds of the first round / of a later one:",
        "",
        f"| trainer | {' | '.join(STAGES)} | whole run |",
        "|---|" + "---|" * (len(STAGES) + 1),
    ]
    for r in results:
        cells = [f"{r.first[stage]:.2f} / {r.later[stage]:.2f}" for stage in STAGES]
        lines.append(f"| {r.kind} | {' | '.join(cells)} | {r.wall_seconds:.1f} |")
    return "\n".join(lines)
