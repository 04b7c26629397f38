"""Learning reports of any size, for the tests."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ray_itl.report.learning_data import (
    Beside,
    ClassScores,
    Goal,
    LearningCurve,
    LearningReport,
    LearningRow,
    Needed,
    PickedRound,
    PickedRow,
    Saving,
    Trail,
)

RULES = [
    "ITL",
    "VTL",
    "CTL",
    "uncertainty",
    "nearest",
    "badge",
    "random",
    "MM",
    "cosine",
    "entropy",
    "core-set",
    "DEIM",
]


def make_learning_curve(name: str, r: int, speed: float, *, num_seeds: int = 10, budget: int = 400) -> LearningCurve:
    """A curve that rises from 0.2 towards 0.95, faster with more `speed`; without errors for one seed."""
    rng = np.random.default_rng(len(name))
    labelled = np.linspace(0, budget, r).round().astype(np.int64)
    noise = rng.normal(size=r) * 0.004
    score = 0.95 - 0.75 * np.exp(-3 * speed * labelled / budget) + np.where(labelled > 0, noise, 0.0)
    several = num_seeds > 1
    return LearningCurve(
        name=name,
        num_labelled=labelled,
        score=score,
        score_error=0.004 + 0.01 * np.exp(-labelled / 100) if several else np.full(r, np.nan),
        on_task=labelled * min(0.2 * speed, 0.95),
        on_task_error=0.01 * labelled if several else None,
        num_seeds=num_seeds,
    )


def make_row(curve: LearningCurve, reference: LearningCurve) -> LearningRow:
    """How `curve` ended beside `reference`."""
    reached = np.flatnonzero(curve.score >= reference.score[-1])
    needed = int(curve.num_labelled[reached[0]]) if len(reached) else None
    return LearningRow(
        curve.name,
        float(curve.score[-1]),
        None if curve.score_error is None else float(curve.score_error[-1]),
        float(curve.on_task[-1]),
        None if curve.on_task_error is None else float(curve.on_task_error[-1]),
        needed,
        float(reference.num_labelled[-1] / needed) if needed else None,
    )


def with_goals(report: LearningReport) -> LearningReport:
    """The report with two goals: all variants reach the first, and none the second, which the reference does."""
    needed = [Needed(40, 30, 60), Needed(math.inf, 100, math.inf)]
    savings = [Saving(2.0, 1.5, math.inf, 40), Saving(0.0, 0.0, 0.5, math.inf)]
    beside = Beside(str(report.reference), 0.051, 0.004, -0.02, 0.003, 10, savings)
    rows = [
        row._replace(area=0.7, area_error=0.01, needed=needed, beside=[] if row.name == report.reference else [beside])
        for row in report.rows
    ]
    return replace(report, rows=rows, goals=[Goal(0.8, 0.704), Goal(0.95, 0.836)])


def make_class_scores(names: list[str]) -> ClassScores:
    """Of 20 held-out rows of each class, one in four is taken for the next."""
    count = len(names)
    confusion = np.diag(np.full(count, 15))
    confusion[np.arange(count), (np.arange(count) + 1) % count] += 5
    return ClassScores(names=names, num_trained=np.arange(count) + 1, confusion=confusion, whose="ITL after round 4")


def make_learning_report(num_variants: int = 7, r: int = 20, *, num_seeds: int = 10, **changes: Any) -> LearningReport:
    """A report of `num_variants` rules over r points with everything on it; `changes` replace fields."""
    names = RULES[:num_variants]
    speeds = np.linspace(4.0, 0.5, num_variants)
    curves = [
        make_learning_curve(name, r, speed, num_seeds=num_seeds) for name, speed in zip(names, speeds, strict=True)
    ]
    reference = "random" if "random" in names else names[-1]
    against = next(curve for curve in curves if curve.name == reference)
    fields: dict[str, Any] = {
        "title": "a fine-tuning",
        "score_name": "accuracy",
        "higher_is_better": True,
        "curves": curves,
        "rows": [make_row(curve, against) for curve in curves],
        "reference": reference,
        "facts": {"Model": "a small network", "Rounds": r - 1},
        "stage_seconds": {"select": 12.0, "label": 0.2, "train": 93.0, "evaluate": 4.0},
        "drift": {name: Trail(np.arange(1, r), 1 - 0.4 / np.arange(1, r)) for name in names},
        "variance": {curve.name: Trail(curve.num_labelled, np.exp(-curve.num_labelled / 100)) for curve in curves},
        "classes": make_class_scores(["cats", "dogs", "birds"]),
        "picked": [
            PickedRound(1, 4, 3, [PickedRow("", "cats", True), PickedRow("", "boats", False)], True),
            PickedRound(2, 1, 1, [PickedRow("a text about dogs", "dogs", True)], False),
        ],
    }
    return LearningReport(**(fields | changes))
