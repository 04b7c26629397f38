"""Rows of the pool that are nearly equal to a held-out one: found, excluded, and on record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from ray_itl.core.pool import Pool
from ray_itl.curation.constraints import with_limits
from ray_itl.curation.heldout import (
    HELDOUT_FILE,
    REASONS,
    Contamination,
    contamination_table,
    near_by_features,
    near_by_text,
)
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.parquet import ParquetSource
from ray_itl.text import plural


def contaminated_texts(problem: Problem, reporter: Reporter) -> Contamination:
    """Return the rows of the pool whose texts are like a held-out one; reads their column."""
    heldout = problem.heldout
    if heldout is None or heldout.index is None:
        return Contamination.none()
    short = heldout.index.num_short if heldout.options.ngram is not None else 0
    if short:
        reporter.warn(
            f"{plural(short, 'held-out text')} of {len(heldout):,} have fewer than heldout.ngram="
            f"{heldout.options.ngram} words: of those only the same texts are found"
        )
    on_rows = reporter.rows("compared", problem.source.num_rows)
    with reporter.stage("heldout", f"comparing texts with {plural(len(heldout), 'held-out one')}"):
        return near_by_text(problem.source, heldout, on_rows)


def contaminated_rows(problem: Problem, pool: Pool, reporter: Reporter) -> Contamination:
    """Return the rows of the pool that are near held-out ones by their features. One pass, none without any."""
    query = None if problem.heldout is None else problem.heldout.query
    if query is None:
        return Contamination.none()
    with reporter.stage("heldout", f"comparing all rows with {plural(len(query.directions), 'held-out row')}"):
        return near_by_features(pool.near(query))


def keeping_out(problem: Problem, settings: CurationSettings, found: Contamination) -> Problem:
    """Return the problem without the contaminated rows; those that could not be picked anyway are not counted.

    Raises:
        ConfigError: too few rows are left for the options.
    """
    found = found.without(problem.excluded)
    if not len(found):
        return problem
    barred = found.positions if problem.excluded is None else np.union1d(problem.excluded, found.positions)
    problem = replace(problem, excluded=barred, contamination=found)
    free, n = problem.num_free, problem.selection.n
    if settings.state.dir is not None:
        problem = problem.at_most_all()
    elif not free:
        problem = replace(problem, nothing_to_pick=True)
    elif n > free and not problem.selection.replacement:
        raise ConfigError(
            f"selection.n={n}, but the pool has {free} rows to pick from that are not nearly equal to held-out "
            "ones: ask for 1 to that many, or raise heldout.max_similarity"
        )
    return problem if problem.cost_group_columns is None else with_limits(problem, settings)


def listed(problem: Problem) -> pa.Table | None:
    """Return heldout.parquet; None where nothing is held out."""
    if problem.heldout is None:
        return None
    return contamination_table(problem.source, problem.heldout, problem.contamination)


def write_contamination(run: RunDirectory, problem: Problem) -> None:
    """Write heldout.parquet, where rows are held out: without rows, too, since that is what was found."""
    table = listed(problem)
    if table is not None:
        write_parquet_table(run.path / HELDOUT_FILE, table)


def read_contamination(table: pa.Table, problem: Problem, source: ParquetSource) -> Contamination:
    """Return what heldout.parquet lists, by position in the source.

    Raises:
        RunDirectoryError: a row, or a held-out one, that is not there.
    """
    numbers: dict[str, int] = {}
    for number, name in enumerate([] if problem.heldout is None else problem.heldout.names):
        numbers.setdefault(name, number)
    found = []
    for row in table.to_pylist():
        position = source.position_of(row["file"], row["row"])
        if position is None or row["heldout_id"] not in numbers or row["reason"] not in REASONS:
            raise RunDirectoryError(
                f"{HELDOUT_FILE} lists row {row['row']} of {row['file']!r} as near {row['heldout_id']!r}, one of which "
                "is not there: restore it"
            )
        found.append((position, numbers[row["heldout_id"]], row["similarity"], REASONS.index(row["reason"])))
    if not found:
        return Contamination.none()
    positions, nearest, similarities, reasons = zip(*sorted(found), strict=True)
    return Contamination(np.array(positions), np.array(nearest), np.array(similarities), np.array(reasons))
