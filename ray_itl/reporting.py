"""Gathering what report.html shows about a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from ray_itl.core.messages import RowBatch
from ray_itl.core.neighbours import nearest_of
from ray_itl.core.result import GreedyResult
from ray_itl.problem import Problem
from ray_itl.report.data import ComparisonRow, GainUnit, ReportData
from ray_itl.report.parts import Mix, PickReason, TargetsLeft, Use
from ray_itl.report.projection import project
from ray_itl.selection import EXPLANATION_COLUMNS, Selection
from ray_itl.settings import CurationSettings
from ray_itl.source_mix import source_mixes

_MAP_TARGETS = 2000
_CAPTION = (
    "Uncertainty left is the share of the targets' prior variance that the picks leave: lower is better. On task are "
    "picks whose {0.class_column} is one of {0.classes}: near-copies all count, however little the next one adds."
)


def build_report(
    problem: Problem,
    settings: CurationSettings,
    selection: Selection,
    result: GreedyResult,
    pool_sample: RowBatch,
    comparison: Sequence[dict],
    warnings: Sequence[str],
) -> ReportData:
    """Return the report's data.

    Args:
        problem: The problem that was solved.
        settings: Its options.
        selection: The picks as a table.
        result: The picks with their features.
        pool_sample: Some pool rows, drawn at random.
        comparison: Records of `evaluation.count_on_task`, or nothing.
        warnings: Sentences to show first.
    """
    table = selection.table
    step = -(-len(problem.targets.rows) // _MAP_TARGETS)
    placed = project(pool_sample.features.double(), problem.targets.rows[::step], result.features)
    nearest = nearest_of(result.features, problem.targets.rows, 1)
    names = np.arange(len(problem.targets.rows)) if problem.target_ids is None else problem.target_ids
    seconds = selection.metrics["seconds"]
    return ReportData(
        title="ray_itl selection",
        acquisition=settings.acquisition.name,
        num_pool=problem.source.num_rows,
        num_targets=len(problem.targets.rows),
        num_asked=problem.selection.n,
        seconds=sum(seconds.values()),
        num_passes=selection.stats.passes,
        gains=selection.gains,
        gain_unit=cast(GainUnit, selection.unit),
        remaining_uncertainty=selection.remaining_uncertainty,
        map_pool=placed.pool,
        map_targets=placed.targets,
        map_picks=placed.picks,
        map_explained=placed.explained,
        ids=selection.ids,
        files=table.column("file").to_pylist(),
        rows=table.column("row").to_pylist(),
        nearest_ids=names[nearest.indices[:, 0].numpy()].tolist(),
        nearest_cosines=nearest.cosines[:, 0].numpy(),
        columns={name: table.column(name).to_pylist() for name in settings.pool.columns},
        facts=_facts(problem, settings, selection),
        warnings=list(warnings),
        stage_seconds=seconds,
        comparison=[
            ComparisonRow(row["rule"], row["remaining_uncertainty"], row["count"], row["share"]) for row in comparison
        ],
        targets_left=TargetsLeft(names.tolist(), _left_of_each(problem, result)),
        mixes=_mixes(problem, settings, result, pool_sample),
        uses=_uses(settings, selection),
        reasons=_reasons(selection) if settings.selection.explain else None,
        comparison_caption=_CAPTION.format(settings.evaluation) if comparison else "",
    )


def _left_of_each(problem: Problem, result: GreedyResult) -> np.ndarray:
    """Return the share of each target's variance that the picks leave; 0 where there was none to begin with."""
    rows = problem.targets.rows
    before, after = problem.posterior.variance(rows), result.state.posterior.variance(rows)
    return (after / before.where(before > 0, 1.0)).clamp(0.0, 1.0).numpy()


def _mixes(problem: Problem, settings: CurationSettings, result: GreedyResult, sample: RowBatch) -> list[Mix]:
    evaluated = [settings.evaluation.class_column] if settings.evaluation.class_column else []
    columns = list(dict.fromkeys([*evaluated, *settings.pool.columns]))
    picked = np.array([pick.position for pick in result.picks], dtype=np.int64)
    return source_mixes(problem.source, picked, sample.positions, columns)


def _uses(settings: CurationSettings, selection: Selection) -> list[Use]:
    """Return what `limits_report.limits_used` says."""
    return [
        Use(
            entry["name"],
            entry["used"],
            entry.get("min"),
            entry.get("max"),
            settings.selection.cost_column or "" if entry["name"] == "budget" else "",
        )
        for entry in selection.metrics["limits"]
    ]


def _reasons(selection: Selection) -> list[PickReason]:
    return [
        PickReason(
            list(zip(row["nearest_targets"], row["nearest_target_similarity"], strict=True)),
            list(zip(row["informed_targets"], row["informed_target_share"], strict=True)),
            None if row["nearest_earlier"] is None else (row["nearest_earlier"], row["nearest_earlier_similarity"]),
            None if row["runner_up"] is None else (row["runner_up"], row["runner_up_margin"]),
        )
        for row in selection.table.select(list(EXPLANATION_COLUMNS)).to_pylist()
    ]


def _place(settings: CurationSettings, selection: Selection) -> dict[str, str]:
    if settings.state.dir is None:
        return {"Run directory": str(selection.run_dir)}
    return {"State directory": settings.state.dir, "Tick": str(settings.state.tick)}


def _facts(problem: Problem, settings: CurationSettings, selection: Selection) -> dict[str, str]:
    noise = settings.acquisition.target_noise_variance
    return {
        "Noise variance": f"{settings.acquisition.noise_variance:g}",
        "Target noise variance": "as above" if noise is None else f"{noise:g}",
        "Features": f"{settings.pool.features}, {problem.dim} dimensions, {settings.pool.dtype}",
        "Known rows": "0" if problem.known is None else f"{len(problem.known):,}",
        "Screening": selection.stats.precision,
        **{
            f"Task {task['name']}": f"{task['targets']:,} targets, weight {task['weight']:g}, "
            f"{task['uncertainty_left']:.1%} of their uncertainty left"
            for task in selection.metrics["tasks"]
        },
        **_place(settings, selection),
    }
