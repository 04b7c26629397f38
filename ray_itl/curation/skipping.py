"""What becomes of rows that cannot be used: the run is refused, or goes on as if the pool had not had them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from ray_itl.curation.constraints import check_number_left, with_limits
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import RunDirectoryError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.bad_rows import REMEDY, SKIPPED_FILE, BadRow, BadRows
from ray_itl.sources.parquet import ParquetSource


def without_bad_rows(problem: Problem, settings: CurationSettings, found: BadRows) -> Problem:
    """Return the problem of a pool in which some rows turned out bad when they were loaded.

    Rows that are excluded anyway, by a list or since they were picked before, may be what they like.

    Raises:
        BadRowsError: there are others, and `pool.on_bad_row` is refuse.
        ConfigError: too few rows are left for the options.
    """
    bad = found.without(problem.excluded)
    if not len(bad):
        return problem
    if settings.pool.on_bad_row == "refuse":
        raise bad.refusal(problem.source.locate, REMEDY)
    if len(bad) == problem.num_free and settings.state.dir is None:
        raise bad.refusal(problem.source.locate)
    return passing_over(problem, settings, bad)


def passing_over(problem: Problem, settings: CurationSettings, skipped: BadRows) -> Problem:
    """Return the problem of the pool without some bad rows, none of which is excluded already.

    Raises:
        ConfigError: too few rows are left for the options.
    """
    barred = skipped.positions if problem.excluded is None else np.union1d(problem.excluded, skipped.positions)
    problem = replace(problem, excluded=barred, skipped=skipped)
    if settings.state.dir is not None:
        problem = problem.at_most_all()
    check_number_left(problem, settings, len(skipped))
    return problem if problem.cost_group_columns is None else with_limits(problem, settings)


def skipped_table(problem: Problem) -> pa.Table:
    """Return skipped.parquet: file, row in it, id and reason of every row that was passed over."""
    return problem.skipped.table(problem.source.locate, problem.source.id_kind)


def write_skipped(run: RunDirectory, problem: Problem) -> None:
    """Write skipped.parquet where rows were passed over."""
    if len(problem.skipped):
        write_parquet_table(run.path / SKIPPED_FILE, skipped_table(problem))


def read_skipped(table: pa.Table, source: ParquetSource) -> BadRows:
    """Return what skipped.parquet lists, by position in the source.

    Raises:
        RunDirectoryError: a row that the source does not have.
    """
    found = BadRows()
    for row in table.to_pylist():
        position = source.position_of(row["file"], row["row"])
        if position is None:
            raise RunDirectoryError(
                f"{SKIPPED_FILE} lists row {row['row']} of {row['file']!r}, which is not in the pool: restore it"
            )
        found.extend([BadRow(position, row["id"], row["reason"])])
    return found
