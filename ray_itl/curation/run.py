"""One selection run from start to finish: opened, begun or found, tried, and told of. Resumes where a try stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray_itl.curation.attempt import Attempt
from ray_itl.curation.beforehand import check_before
from ray_itl.curation.carrying import picked_positions, tell_of_other_columns, with_columns, with_whole_rows
from ray_itl.curation.constraints import with_limits, with_number
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.identity import ASKED, recorded_identity
from ray_itl.curation.inputs import FROM_OPTIONS, Inputs
from ray_itl.curation.lengthscale import with_lengthscale
from ray_itl.curation.outputs import read_selection, remarks_on, unsettled_files
from ray_itl.curation.preparation import Rows, prepared_problem, telling, with_begun
from ray_itl.curation.problem import Problem
from ray_itl.curation.pushing import push_run
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.source_rows import SourceRows
from ray_itl.curation.summary import unsettled_words
from ray_itl.curation.tracking import SelectionTracking
from ray_itl.errors import ConfigError, InputError
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Watch
from ray_itl.options.declare import changed
from ray_itl.options.text import to_yaml
from ray_itl.runs.directory import RunDirectory
from ray_itl.runs.environment import run_details
from ray_itl.selection import Selection
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.sources.parquet import names_rows


def curate(
    settings: CurationSettings,
    inputs: Inputs = FROM_OPTIONS,
    reporter: Reporter | None = None,
    rows: Rows | None = None,
) -> Selection:
    """Run one selection; where `settings.run.dir` is set, leave a run directory (or finish the one there).

    Args:
        settings: All options.
        inputs: What the caller holds in memory.
        reporter: Where progress goes.
        rows: Of the pool, where they are loaded already.

    Raises:
        InputError, ConfigError: inputs or options that cannot be used; nothing is left behind, except picks already
            made, which the same call resumes once the cause is mended.
        RunDirectoryError: the run directory cannot be written or belongs to another run.
        StorageError: storage failed, or was full; the same call resumes.
        ShardError, CacheError: a part of the cluster, or a disk, failed for good; the same call resumes.
    """
    reporter = reporter or Reporter(settings.run.log)
    if settings.run.dir is not None:
        settings = with_begun(settings, RunDirectory(settings.run.dir).identity, reporter)
    if settings.pool.filter is not None:
        reporter.info("reading the columns that pool.filter looks at")
    with reporter.stage("open"):
        problem = prepared_problem(settings, telling(inputs, reporter), rows)
    settings = with_lengthscale(with_number(settings, problem, reporter.info), problem)
    selection = curate_problem(problem, settings, reporter, rows=rows)
    push_run(selection, settings, reporter)
    return selection


def curate_problem(
    problem: Problem,
    settings: CurationSettings,
    reporter: Reporter,
    watch: Watch = lambda _: None,
    kept: CurationSettings | None = None,
    rows: Rows | None = None,
) -> Selection:
    """Run one selection on a problem opened already, its lists of ids included; otherwise as `curate`.

    `watch` is told every status of the run; what it raises ends the run, which the same call resumes. `kept` are the
    options that config.yaml replays, where they are not those of the run itself.
    """
    if unsettled := unsettled_files(problem.source):
        reporter.info(f"passing over {unsettled_words(len(unsettled))}, such as {unsettled[0]}")
    for remark in remarks_on(problem.source):
        reporter.info(remark)
    if settings.pool.filter is not None:
        reporter.info(f"{problem.source.num_rows:,} rows meet pool.filter")
    if names_rows(problem.source) and settings.pool.id_column is not None:
        column = settings.pool.id_column
        reporter.info(
            f"the pool has no column {column!r}: a row's id is its file and its number there, an image's its path"
        )
    with reporter.stage("open"):
        problem = with_limits(problem, settings)
        if settings.run.dir is None or RunDirectory(settings.run.dir).state != "finished":
            for words in check_before(problem, settings):
                reporter.warn(words)
    for note in problem.notes:
        reporter.info(f"beware: {note}")
    if settings.run.dir is None:
        return Attempt(problem, settings, reporter, None, watch, rows).execute()
    tracking = SelectionTracking(settings, reporter.warn)
    with reporter.stage("open"):
        identity = recorded_identity(problem, settings)
        run = RunDirectory(settings.run.dir, may_differ=ASKED)
        state = run.begin(identity, run_details(problem.source), to_yaml(kept or settings))
    if state == "finished":
        run.tidy()  # it may have been killed right after it had finished
        reporter.info(f"this run is finished already: its results are in {run.path}")
        selection = with_columns(run, problem, settings, read_selection(run), reporter)
        positions = picked_positions(run, problem, selection)
        with_whole_rows(run, problem, settings, positions)
        selection = replace(selection, source_rows=SourceRows(problem.source, positions), options=changed(settings))
        for warning in selection.metrics.get("warnings", []):
            reporter.warn(warning)
        tracking.catch_up(selection)
        return selection
    if state == "unfinished":
        reporter.info(f"continuing the run in {run.path}")
        tell_of_other_columns(run, settings, reporter)
    try:
        with tracking.running():
            selection = Attempt(problem, settings, reporter, run, _both(watch, tracking.watch), rows).execute()
            tracking.finished(selection)
        return selection
    except (InputError, ConfigError):
        if state == "new":
            run.abandon(SKIPPED_FILE, HELDOUT_FILE)
        raise


def _both(first: Watch, second: Watch) -> Watch:
    def watch(status: Mapping[str, Any]) -> None:
        first(status)
        second(status)

    return watch
