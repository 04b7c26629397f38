"""A run that is asked for other columns of its picks than before: the picks stay, what is written of them changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ray_itl.curation.outputs import carried_columns, write_selection
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.whole_rows import file_of, write_whole_rows
from ray_itl.errors import ConfigError
from ray_itl.observability.reporter import Reporter
from ray_itl.options.text import from_yaml, to_yaml
from ray_itl.runs.directory import RunDirectory, UnusableRunDirectoryError
from ray_itl.runs.ledger import Ledger
from ray_itl.selection import EXPLANATION_COLUMNS, Selection
from ray_itl.sources.parquet import ParquetSource


def tell_of_other_columns(run: RunDirectory, settings: CurationSettings, reporter: Reporter) -> None:
    """Say so where an unfinished run is asked for other columns than before, and let config.yaml ask for them."""
    before = _asked_before(run)
    if before is None or _asked(before) == _asked(settings):
        return
    reporter.warn(
        f"pool.columns={settings.pool.columns} and selection.explain={str(settings.selection.explain).lower()} are not "
        "what this run began with: its picks stay, only what is written of them changes"
    )
    run.replace_config(to_yaml(_asking(before, settings)))


def with_columns(
    run: RunDirectory, problem: Problem, settings: CurationSettings, selection: Selection, reporter: Reporter
) -> Selection:
    """Return the selection of a finished run with the columns asked for now; writes it anew where they are others.

    Raises:
        UnusableRunDirectoryError: an explanation is asked for, which would take the pool, and there is none.
        InputError: columns that cannot be read.
    """
    table, wanted = selection.table, list(settings.pool.columns)
    explained = [name for name in table.column_names if name in EXPLANATION_COLUMNS]
    if settings.selection.explain and not explained:
        raise UnusableRunDirectoryError(
            f"run.dir={run.path} is finished without selection.explain: choose another directory, or leave it out"
        )
    before = _asked_before(run)
    if before is None or before.pool.columns == wanted:
        return selection
    own = table.drop_columns([name for name in before.pool.columns if name in table.column_names])
    carried = carried_columns(problem.source, picked_positions(run, problem, selection), wanted)
    for name in wanted:
        place = own.num_columns - len(explained)
        own = own.add_column(place, carried.schema.field(name), carried.column(name))
    selection = replace(selection, table=own)
    write_selection(run, selection)
    run.replace_config(to_yaml(_asking(before, settings)))
    reporter.warn(
        f"pool.columns={wanted} are not what this run was finished with: selection.parquet is written anew with them, "
        "the picks are those that were there"
    )
    return selection


def _asked(settings: CurationSettings) -> tuple[Sequence[str], bool]:
    return settings.pool.columns, settings.selection.explain


def _asking(before: CurationSettings, settings: CurationSettings) -> CurationSettings:
    """Return the options of before that ask for what is asked for now."""
    pool = replace(before.pool, columns=settings.pool.columns)
    return replace(before, pool=pool, selection=replace(before.selection, explain=settings.selection.explain))


def _asked_before(run: RunDirectory) -> CurationSettings | None:
    """Return the options in config.yaml; None where they cannot be read."""
    text = run.config_text
    try:
        return None if text is None else from_yaml(text, CurationSettings)
    except ConfigError:
        return None


def with_whole_rows(run: RunDirectory, problem: Problem, settings: CurationSettings, positions: np.ndarray) -> None:
    """Write the picks of a finished run as whole rows, where that is asked for and they are not there."""
    name = file_of(problem.source, settings.run.output)
    if name is not None and not (run.path / name).exists():
        write_whole_rows(run, problem.source, positions, settings.run)


def picked_positions(run: RunDirectory, problem: Problem, selection: Selection) -> np.ndarray:
    """Return the positions of the picks, in order."""
    entries = Ledger(run.path, allow_repeats=problem.selection.replacement).read()
    if len(entries) == len(selection):
        return np.array([entry.position for entry in entries], dtype=np.int64)
    source = problem.source
    rows = selection.table.column("row").to_numpy()  # of baselines, which keep no ledger
    if not isinstance(source, ParquetSource):
        return np.searchsorted(source.locate(np.arange(source.num_rows))[1], rows)
    places = zip(selection.table.column("file").to_pylist(), rows.tolist(), strict=True)
    return np.array([source.position_of(file, row) for file, row in places], dtype=np.int64)
