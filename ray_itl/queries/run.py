"""One selection for many queries from start to finish: open, load, pick, write. Resumes with the queries left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.core.many.selector import ManySelector, ManyStats, QueryPicks
from ray_itl.core.messages import Precision
from ray_itl.core.posterior import Targets
from ray_itl.core.similarity_floor import SimilarityFloor
from ray_itl.curation.constraints import with_number
from ray_itl.curation.identity import ASKED, recorded_identity
from ray_itl.curation.inputs import FROM_OPTIONS, Inputs
from ray_itl.curation.lengthscale import lengthscale_of, with_lengthscale
from ray_itl.curation.likeness import settled_floor
from ray_itl.curation.pool import OpenPool
from ray_itl.curation.preparation import Rows, loaded_pool, prepared_problem, settled_noise, telling, with_begun
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.skipping import without_bad_rows, write_skipped
from ray_itl.curation.whole_rows import form_of
from ray_itl.errors import ConfigError, InputError
from ray_itl.io.atomic import write_atomic, write_json, write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import RunStatus
from ray_itl.options.text import to_yaml
from ray_itl.queries.checks import check_options
from ray_itl.queries.parts import Parts, table_of
from ray_itl.queries.reading import Queries, query_identity, read_queries
from ray_itl.runs.directory import RunDirectory
from ray_itl.runs.environment import run_details
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.text import plural

RESERVED = ("query", "rank", "id", "gain", "bound", "min_similarity")
_QUERIES_A_PART = 64


@dataclass(frozen=True)
class QuerySelection:
    """The picks of all queries."""

    table: pa.Table
    """query, rank (from 1), id and gain of every pick, queries in the order in which they first come; with
    selection.nearest bound, too, with selection.min_similarity the number that it was for the query; and the columns
    asked for."""
    unit: str
    """Of gains."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What metrics.json holds."""
    run_dir: Path | None = None


def select_queries(
    settings: CurationSettings,
    inputs: Inputs = FROM_OPTIONS,
    reporter: Reporter | None = None,
    rows: Rows | None = None,
) -> QuerySelection:
    """Pick selection.n rows for every query of target.query_column, each exactly as a selection of its own would.

    Where `settings.run.dir` is set a run directory is left, or the one there is finished: queries that are done are
    kept, in parts of some dozens.

    Args:
        settings: All options.
        inputs: What the caller holds in memory.
        reporter: Where progress goes.
        rows: Of the pool, where they are loaded already.

    Raises:
        InputError, ConfigError: inputs or options that cannot be used.
        RunDirectoryError: the run directory cannot be written or belongs to another run.
        StorageError, ShardError, CacheError: the same call resumes.
    """
    reporter = reporter or Reporter(settings.run.log)
    check_options(settings)
    if settings.run.dir is not None:
        settings = with_begun(settings, RunDirectory(settings.run.dir).identity, reporter)
    if clash := sorted(set(settings.pool.columns) & set(RESERVED)):
        raise ConfigError(f"pool.columns={clash} would overwrite columns of the result: leave them out")
    with reporter.stage("open"):
        inputs = telling(inputs, reporter)
        problem = prepared_problem(settings, inputs, rows)
        queries = read_queries(problem, settings, inputs)
    settings = with_lengthscale(with_number(settings, problem, reporter.info), problem)
    if problem.selection.n > problem.num_free:
        free = problem.num_free
        raise ConfigError(f"selection.n={problem.selection.n}, but {free} rows may be picked: ask for 1 to that many")
    for note in problem.notes:
        reporter.info(f"beware: {note}")
    if settings.run.dir is None:
        return _Run(problem, queries, settings, reporter, rows, None).execute()
    form_of(problem.source, settings.run.output)
    run = RunDirectory(settings.run.dir, may_differ=ASKED)
    identity = {**recorded_identity(problem, settings), **query_identity(settings, queries)}
    state = run.begin(identity, run_details(problem.source), to_yaml(settings))
    if state == "finished":
        reporter.info(f"this run is finished already: its results are in {run.path}")
        table = pq.read_table(run.path / "selection.parquet")
        return QuerySelection(table, problem.acquisition.unit, run.read_metrics(), run.path)
    if state == "unfinished":
        reporter.info(f"continuing the run in {run.path}")
    try:
        return _Run(problem, queries, settings, reporter, rows, run).execute()
    except (InputError, ConfigError):
        if state == "new" and not Parts(run.path).read(problem.source):
            run.abandon(SKIPPED_FILE)
        raise


class _Run:
    """One try at a run."""

    def __init__(
        self,
        problem: Problem,
        queries: Queries,
        settings: CurationSettings,
        reporter: Reporter,
        rows: Rows | None,
        run: RunDirectory | None,
    ) -> None:
        self._problem = problem
        self._queries = queries
        self._settings = settings
        self._reporter = reporter
        self._rows = rows
        self._run = run
        n = problem.selection.n
        self._status = RunStatus(run, problem.source.num_rows, n * len(queries), warnings=reporter.warnings)
        self._parts = None if run is None else Parts(run.path)

    def execute(self) -> QuerySelection:
        """Load, pick, write."""
        reporter, status = self._reporter, self._status
        done = {} if self._parts is None else self._parts.read(self._problem.source)
        if done:
            reporter.info(f"  {plural(len(done), 'query').replace('querys', 'queries')} are done already")
        with status.going_on():
            status.adding(queries_done=len(done), num_queries=len(self._queries))
            status.step("load")
            reporter.on_waiting = status.waiting
            with (
                loaded_pool(self._problem, self._settings, reporter, self._rows, self._run) as opened,
                status.telling_failure(),
            ):
                problem = without_bad_rows(self._problem, self._settings, opened.bad)
                if self._run is not None:
                    write_skipped(self._run, problem)
                fewest = min(float(each.weights.sum()) for each in self._queries.targets)
                problem = settled_noise(problem, self._settings, opened.pool.mean_squared_norm(), reporter, fewest)
                with reporter.stage("select"):
                    stats = self._select(problem, opened, done)
            status.step("write")
            with reporter.stage("write"):
                selection = self._finish(problem, [done[number] for number in range(len(self._queries))], stats)
            status.finished(len(selection.table))
            if self._run is not None:
                self._run.tidy()
        return selection

    def _select(self, problem: Problem, opened: OpenPool, done: dict[int, QueryPicks]) -> ManyStats:
        """Select for the queries that are not done, and keep what is."""
        asked, chosen = self._settings.pool.screening, problem.selection
        selector = ManySelector(
            opened.pool,
            problem.acquisition,
            problem.posterior,
            np.empty(0, dtype=np.int64) if problem.excluded is None else problem.excluded,
            None if asked == "auto" else cast(Precision, asked),
            opened.has_room_for_copies,
            chosen.nearest,
            in_turn=not opened.on_disk,
            floor_of=self._floor_of(problem, opened),
            on_pass=lambda count: self._reporter.info(f"  a pass for {count:,} queries"),
        )
        left = [number for number in range(len(self._queries)) if number not in done]
        rule = self._settings.acquisition.name
        self._reporter.info(f"picking {chosen.n:,} rows by {rule} for each of {len(left):,} queries")
        report, before = self._reporter.rows("selected for", len(left), "queries"), len(done)
        self._status.step("select", before * chosen.n, sum(float(each.gains.sum()) for each in done.values()))
        pending: list[QueryPicks] = []
        for found in selector.select([self._queries.targets[number] for number in left], chosen.n):
            found = replace(found, number=left[found.number])
            done[found.number] = found
            pending.append(found)
            if len(pending) == _QUERIES_A_PART or len(done) == len(self._queries):
                if self._parts is not None:
                    self._parts.write(pending, problem.source)
                gain = sum(float(each.gains.sum()) for each in pending)
                self._status.adding(queries_done=len(done))
                self._status.picked(len(done) * chosen.n, gain, selector.stats.passes)
                report(len(done) - before)
                pending = []
        return selector.stats

    def _floor_of(self, problem: Problem, opened: OpenPool) -> Callable[[Targets], SimilarityFloor] | None:
        """Return what says which floor targets set, if options ask for one."""
        if problem.selection.min_similarity is None:
            return None
        return lambda targets: settled_floor(problem, opened.pool, targets).floor

    def _finish(self, problem: Problem, picks: list[QueryPicks], stats: ManyStats) -> QuerySelection:
        table = table_of(self._queries, picks, problem.source, self._settings.pool.columns)
        gains = table.column("gain").to_numpy()
        metrics: dict[str, Any] = {
            "num_queries": len(self._queries),
            "num_picks": len(table),
            "num_rows": problem.num_rows,
            "num_targets": len(problem.targets.rows),
            "dim": problem.dim,
            "total_gain": float(gains.sum()),
            "mean_gain": float(gains.sum()) / len(self._queries),
            "unit": problem.acquisition.unit,
            "noise_variance": problem.acquisition.noise_variance,
            **lengthscale_of(problem),
            "passes": stats.passes,
            "queries_alone": stats.alone,
            "seconds": {name: round(value, 4) for name, value in self._reporter.seconds.items()},
        }
        if "bound" in table.column_names:
            metrics["picks_certain"] = int((gains > table.column("bound").to_numpy()).sum())
        if problem.selection.min_similarity is not None:
            metrics["queries_short"] = sum(len(each.positions) < problem.selection.n for each in picks)
        if len(problem.skipped):
            metrics["skipped_rows"] = len(problem.skipped)
        if self._run is not None:
            self._write(problem, table)
            write_json(self._run.path / "metrics.json", metrics)
        return QuerySelection(table, problem.acquisition.unit, metrics, None if self._run is None else self._run.path)

    def _write(self, problem: Problem, table: pa.Table) -> None:
        assert self._run is not None
        write_parquet_table(self._run.path / "selection.parquet", table)
        if form_of(problem.source, self._settings.run.output) == "jsonl":
            lines = (json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n" for row in table.to_pylist())
            write_atomic(self._run.path / "selection.jsonl", b"".join(lines))
