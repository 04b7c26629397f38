"""From learning curves to the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_itl.errors import MissingExtraError
from ray_itl.io.atomic import write_atomic
from ray_itl.report.learning_data import LearningReport, Trail
from ray_itl.report.learning_page import render_learning
from ray_itl.rounds.comparison import Comparison, compare
from ray_itl.rounds.scores import score_of
from ray_itl.rounds.seed_curves import seed_curves
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.shown_rows import class_scores, picked_rounds


def sweep_comparison(table: pa.Table, settings: FineTuneSettings, references: Sequence[str]) -> Comparison:
    """Return the variants of a sweep's table side by side, held against those of some names."""
    score = score_of(settings)
    return compare(seed_curves(table, score.column), score.higher_is_better, references)


def build_learning_report(
    table: pa.Table,
    settings: FineTuneSettings,
    title: str,
    references: Sequence[str] = (),
    warnings: Sequence[str] = (),
    runs: Mapping[str, Sequence[Path]] | None = None,
) -> LearningReport:
    """Return the report of a table of curves with the columns variant and seed (see `run_sweep`).

    Args:
        table: The curves.
        settings: Of any run of the sweep; gives the facts.
        title: Heading of the page.
        references: The variants that others are measured against, the main one first; left out where the table has
            none of that name.
        warnings: Sentences to show first.
        runs: The run directories of each variant, one a seed: of the best of them classes are shown, and of an only run
            what it picked.
    """
    score = score_of(settings)
    found = sweep_comparison(table, settings, references)
    names = [curve.name for curve in found.curves]
    best = max(found.rows, key=lambda row: row.score if score.higher_is_better else -row.score).name
    of_best = list((runs or {}).get(best, ()))
    return LearningReport(
        title=title,
        score_name=score.title,
        higher_is_better=score.higher_is_better,
        curves=found.curves,
        rows=found.rows,
        goals=found.goals,
        reference=found.references[0] if found.references and len(names) > 1 else None,
        facts=_facts(settings),
        warnings=[*warnings, *_warnings(len(names), found.curves[0].num_seeds)],
        stage_seconds=_stage_seconds(table),
        drift={name: trail for name in names if (trail := _drift(table, name)) is not None},
        classes=class_scores(of_best, settings, best),
        picked=picked_rounds(of_best[0], settings) if len(names) == len(of_best) == 1 else [],
    )


def write_tuning_report(report: LearningReport, folder: Path) -> str | None:
    """Write report.html into a folder; returns why there is none where its libraries are missing."""
    try:
        write_atomic(folder / "report.html", render_learning(report).encode())
    except MissingExtraError as error:
        return f"no report.html: {error}"
    return None


def _facts(settings: FineTuneSettings) -> dict[str, object]:
    rounds, candidates = settings.rounds, settings.candidates
    return {
        "model": settings.model.name,
        "embedding": settings.embedding.kind,
        "noise variance": settings.acquisition.noise_variance or settings.acquisition.identity_of("noise_variance"),
        "rounds": f"{rounds.count} of {rounds.batch} rows",
        "targets a round": rounds.targets_per_round or "all",
        "candidates": "the whole pool" if candidates.which == "all" else f"{candidates.count:,} ({candidates.which})",
        "pool": settings.data.pool,
    }


def _warnings(num_variants: int, num_seeds: int) -> Sequence[str]:
    if num_variants == 1 or num_seeds > 1:
        return ()
    return ("One seed: differences between rules may be chance. Set sweep.seeds for standard errors.",)


def _stage_seconds(table: pa.Table) -> dict[str, float]:
    """Return seconds of each stage, summed over all rounds and runs."""
    stages = [name for name in table.column_names if name.startswith("seconds.")]
    sums = {name: np.nansum(table.column(name).to_numpy().astype(np.float64)) for name in stages}
    return {name.removeprefix("seconds."): float(seconds) for name, seconds in sums.items()}


def _drift(table: pa.Table, variant: str) -> Trail | None:
    """Return a variant's mean cosine between embeddings before and after each round, averaged over seeds."""
    if "drift.mean_cosine" not in table.column_names:
        return None
    rows = np.array(table.column("variant").to_pylist(), dtype=object) == variant
    rounds, cosines = (
        table.column(name).to_numpy()[rows].astype(np.float64) for name in ("round", "drift.mean_cosine")
    )
    known = np.isfinite(cosines)
    if not known.any():
        return None
    places = np.unique(rounds[known])
    return Trail(places, np.array([cosines[known & (rounds == place)].mean() for place in places]))
