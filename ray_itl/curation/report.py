"""Gathering what report.html shows about a run, among it the mix: what the picks come from, beside the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.core.explain import nearest_of
from ray_itl.core.messages import RowBatch
from ray_itl.core.result import GreedyResult
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.summary import heldout_words
from ray_itl.report.projection import project
from ray_itl.report.selection_data import ComparisonRow, GainUnit, Mix, PickReason, ReportData, TargetsLeft, Use
from ray_itl.selection import EXPLANATION_COLUMNS, Selection
from ray_itl.sources.base import PoolSource

_MAX_COLUMNS = 4
_MAX_VALUES = 50
_NAMED_VALUES = 10
_OTHERS = "(all others)"
_MISSING = "(missing)"


def source_mixes(source: PoolSource, picked: np.ndarray, sample: np.ndarray, columns: Sequence[str]) -> list[Mix]:
    """Return the mix of those columns (at most four) that hold few values, such as a source or a language.

    A column counts if it is of text, whole numbers or true and false, and has 2 to 50 values in the picks and the
    sample together, of which it repeats each at least twice on average. The ten values of the largest shares are named,
    the rest is one group.

    Args:
        source: The pool.
        picked: Positions of the picks.
        sample: Positions of rows drawn from the pool at random.
        columns: Names of columns, each once.
    """
    if not len(sample) or not columns:
        return []
    tables = [source.take(positions, columns) for positions in (picked, sample)]
    mixes = []
    for name in columns:
        if all(_groups(table.schema.field(name).type) for table in tables):
            counts = [_counts(table.column(name)) for table in tables]
            if (mix := _mix(name, *counts)) is not None:
                mixes.append(mix)
    return mixes[:_MAX_COLUMNS]


def _groups(kind: pa.DataType) -> bool:
    """Whether values of a type may name groups."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    counted = pc.call_function("value_counts", [column])
    return Counter({_name(row["values"].as_py()): row["counts"].as_py() for row in counted})


def _name(value: object) -> str:
    return _MISSING if value is None else str(value)


def _mix(name: str, picks: Counter[str], pool: Counter[str]) -> Mix | None:
    num_picks, sampled = picks.total(), pool.total()
    distinct = {*picks, *pool}
    if not 2 <= len(distinct) <= min(_MAX_VALUES, (num_picks + sampled) // 2):
        return None
    shares = {value: (picks[value] / num_picks, pool[value] / sampled) for value in distinct}
    ordered = sorted(distinct, key=lambda value: (-max(shares[value]), value))
    named, others = ordered[:_NAMED_VALUES], ordered[_NAMED_VALUES:]
    values = [*named, *([_OTHERS] if others else [])]
    rest = [tuple(sum(shares[value][k] for value in others) for k in (0, 1))] if others else []
    both = [*(shares[value] for value in named), *rest]
    return Mix(name, values, [pair[0] for pair in both], [pair[1] for pair in both], sampled)


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
        is_directed=problem.baseline is None and problem.acquisition.takes_tasks,
        num_pool=problem.num_rows,
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
    picked = result.positions
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


def _heldout(problem: Problem, count: int) -> str:
    return f"{count:,}; {heldout_words(len(problem.contamination), count)}, listed in {HELDOUT_FILE}"


def _facts(problem: Problem, settings: CurationSettings, selection: Selection) -> dict[str, str]:
    options, target_noise = settings.acquisition, settings.acquisition.target_noise_variance
    of_what = "" if options.noise_variance else f" ({options.relative_noise:g} x the mean squared norm)"
    return {
        "Noise variance": f"{problem.acquisition.noise_variance:g}{of_what}",
        "Target noise variance": "as above" if target_noise is None else f"{target_noise:g}",
        "Features": f"{settings.pool.features}, {problem.dim} dimensions, {settings.pool.dtype}",
        "Known rows": "0" if problem.known is None else f"{len(problem.known):,}",
        **({} if problem.heldout is None else {"Held-out rows": _heldout(problem, len(problem.heldout))}),
        "Screening": selection.stats.precision,
        **{
            f"Task {task['name']}": f"{task['targets']:,} targets, weight {task['weight']:g}, "
            f"{task['uncertainty_left']:.1%} of their uncertainty left"
            for task in selection.metrics["tasks"]
        },
        **_place(settings, selection),
    }
