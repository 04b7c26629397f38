"""Gathering what report.html shows about a run, among it the mix: what the picks come from, beside the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.core.explain import nearest_of
from ray_itl.core.messages import RowBatch
from ray_itl.core.result import GreedyResult
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.lengthscale import lengthscale_of
from ray_itl.curation.likeness import floor_words, likeness_words
from ray_itl.curation.problem import Problem
from ray_itl.curation.repeats import repeats_words
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.summary import heldout_words
from ray_itl.errors import RayItlError
from ray_itl.report.projection import project
from ray_itl.report.selection_data import ComparisonRow, GainUnit, Mix, PickReason, ReportData, TargetsLeft, Use
from ray_itl.report.table import MAX_THUMBNAILS, holds_images
from ray_itl.selection import EXPLANATION_COLUMNS, Selection
from ray_itl.sources.base import PoolSource
from ray_itl.sources.files.image_columns import IMAGE
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.parquet import ParquetSource

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
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _is_text(kind) or pa.types.is_integer(value) or pa.types.is_boolean(value)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


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
_LISTED_TARGETS = 10
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
    left = TargetsLeft(names.tolist(), _left_of_each(problem, result))
    places = nearest.indices[:, 0].tolist()
    reasons = _reasons(selection) if settings.selection.explain else None
    named = [*left.worst(_LISTED_TARGETS), *places, *_places_named(reasons or [], left.ids)]
    shown = shown_targets(problem, settings.pool.columns, named)
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
        nearest_shown=[shown.get(place) for place in places] if shown else (),
        columns={
            **{name: table.column(name).to_pylist() for name in settings.pool.columns},
            **pictures(problem.source, result.positions, settings.pool.columns),
        },
        facts=_facts(problem, settings, selection),
        warnings=list(warnings),
        stage_seconds=seconds,
        comparison=[
            ComparisonRow(row["rule"], row["remaining_uncertainty"], row["count"], row["share"]) for row in comparison
        ],
        targets_left=replace(left, shown=shown),
        mixes=_mixes(problem, settings, result, pool_sample),
        uses=_uses(settings, selection),
        reasons=reasons,
        comparison_caption=_CAPTION.format(settings.evaluation) if comparison else "",
    )


def pictures(source: PoolSource, positions: np.ndarray, columns: Sequence[str]) -> dict[str, list[object]]:
    """Return the images of the foremost picks of a pool of images, unless they are carried, by their column."""
    if IMAGE in columns or not _holds_only_images(source):
        return {}
    try:
        shown = source.take(positions[:MAX_THUMBNAILS], [IMAGE]).column(0).to_pylist()
    except RayItlError:  # the report goes on without
        return {}
    return {IMAGE: shown + [None] * (len(positions) - len(shown))}


def _holds_only_images(source: PoolSource | None) -> bool:
    """Whether rows are images, from their files: their one column of interest, whether it is carried or not."""
    manifest = source.manifest if isinstance(source, ParquetSource) else None
    return manifest is not None and bool(manifest.images) and len(manifest.images) >= len(manifest.files)


def _places_named(reasons: Sequence[PickReason], ids: Sequence[object]) -> list[int]:
    """Return the places of all targets that reasons name."""
    place_of = {name: place for place, name in enumerate(ids)}
    pairs = (pair for reason in reasons for pair in (*reason.nearest_targets, *reason.informed_targets))
    return [place_of[name] for name, _ in pairs]


def shown_targets(problem: Problem, columns: Sequence[str], places: Sequence[int]) -> dict[int, object]:
    """Return what there is to see of targets at some places, by place; empty where that is nothing.

    It is of the columns that they share with the pool's the one of images, else that of the longest texts; of folders
    of images these.
    """
    source = problem.target_source
    columns = [*dict.fromkeys([*columns, *([IMAGE] if _holds_only_images(source) else [])])]
    if not columns or not isinstance(source, ParquetSource | TableSource):
        return {}
    wanted = list(dict.fromkeys(places))
    try:
        files = [file.path for file in source.manifest.files] if isinstance(source, ParquetSource) else [""]
        shared = [name for name in columns if all(name in source.columns_of(file) for file in files)]
        first = source.take(np.array(wanted[:_LISTED_TARGETS]), shared)
        images = [name for name in shared if holds_images(first.column(name).to_pylist())]
        texts = [name for name in shared if _is_text(first.column(name).type)]
        if not images and not texts:
            return {}
        name = images[0] if images else max(texts, key=lambda each: sum(map(len, map(str, first.column(each)))))
        wanted = wanted[:MAX_THUMBNAILS] if images else wanted
        return dict(zip(wanted, source.take(np.array(wanted), [name]).column(0).to_pylist(), strict=True))
    except (RayItlError, OSError):  # of files that changed meanwhile: the page does without
        return {}


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
    found = selection.metrics
    multiple = options.noise_multiple(problem.fewest_targets)
    of_what = "" if options.noise_variance else f" ({multiple:.3g} x the mean squared norm)"
    return {
        "Noise variance": f"{problem.acquisition.noise_variance:g}{of_what}",
        "Target noise variance": "as above" if target_noise is None else f"{target_noise:g}",
        "Features": f"{settings.pool.features}, {problem.dim} dimensions, {settings.pool.dtype}",
        **{name.capitalize(): f"{value:g}" for name, value in lengthscale_of(problem).items()},
        "Known rows": "0" if problem.known is None else f"{len(problem.known):,}",
        **({} if problem.heldout is None else {"Held-out rows": _heldout(problem, len(problem.heldout))}),
        **({"Similarity floor": floor_words(found["min_similarity"])} if "min_similarity" in found else {}),
        "Picks beside the targets": likeness_words(found["target_similarity"]),
        "Picks beside each other": repeats_words(found["repeats"]),
        "Screening": selection.stats.precision,
        **{
            f"Task {task['name']}": f"{task['targets']:,} targets, weight {task['weight']:g}, "
            f"{task['uncertainty_left']:.1%} of their uncertainty left"
            for task in selection.metrics["tasks"]
        },
        **_place(settings, selection),
    }
