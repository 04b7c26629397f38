"""One try at a run: rows are loaded and picked, picks compared, and everything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ray_itl.core.messages import Precision, RowBatch
from ray_itl.core.pool import Pool
from ray_itl.core.result import GreedyResult, GreedyStats, Progress
from ray_itl.core.trajectory import Pick
from ray_itl.curation.decontamination import (
    contaminated_rows,
    contaminated_texts,
    keeping_out,
    listed,
    write_contamination,
)
from ray_itl.curation.evaluation import count_on_task
from ray_itl.curation.explanation import explain, explanation_schema
from ray_itl.curation.heldout import Contamination
from ray_itl.curation.likeness import SAMPLED_ROWS, likeness_of, unlike_targets, with_floor
from ray_itl.curation.outputs import (
    build_selection,
    run_metrics,
    write_challengers,
    write_picks,
    write_posterior,
    write_selection,
)
from ray_itl.curation.pool import OpenPool
from ray_itl.curation.preparation import Rows, loaded_pool, settled_noise
from ray_itl.curation.problem import Problem, tasks_left
from ray_itl.curation.repeats import repeating, repeats_of
from ray_itl.curation.report import build_report
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.skipping import skipped_table, without_bad_rows, write_skipped
from ray_itl.curation.source_rows import SourceRows
from ray_itl.curation.summary import heldout_words, limits_used, noise_drowns_rows, warnings_about
from ray_itl.curation.whole_rows import write_whole_rows
from ray_itl.errors import MissingExtraError
from ray_itl.io.atomic import write_atomic
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import RunStatus, Watch
from ray_itl.options.declare import changed
from ray_itl.report.selection_page import render
from ray_itl.runs.directory import RunDirectory
from ray_itl.runs.ledger import Ledger, LedgerEntry
from ray_itl.selection import Selection
from ray_itl.shards.loading import STORAGE_DTYPES, rows_as_stored
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.costs_and_groups import costs_and_groups_at
from ray_itl.sources.encoding import encoding_of
from ray_itl.text import plural


class Attempt:
    """One try at a run."""

    def __init__(
        self,
        problem: Problem,
        settings: CurationSettings,
        reporter: Reporter,
        run: RunDirectory | None,
        watch: Watch,
        rows: Rows | None,
    ) -> None:
        self._problem = problem
        self._rows = rows
        self._settings = settings
        self._reporter = reporter
        self._run = run
        self._status = RunStatus(run, problem.source.num_rows, problem.selection.n, watch, warnings=reporter.warnings)
        self._mean_squared_norm: float | None = None
        self._floor: dict[str, Any] | None = None
        self._num_embedded: int | None = None
        self._ledger = None if run is None else Ledger(run.path, allow_repeats=settings.selection.replacement)

    def execute(self) -> Selection:
        """Load, pick, compare, write; returns the selection."""
        problem, settings, reporter, status = self._problem, self._settings, self._reporter, self._status
        if problem.nothing_to_pick:
            return self._execute_nothing()
        comparison: list[dict] = []
        explanation = None
        with status.going_on():
            status.step("load")
            like_heldout = contaminated_texts(problem, reporter)
            reporter.on_waiting, reporter.on_rows = status.waiting, status.loading
            with (
                loaded_pool(problem, settings, reporter, self._rows, self._run) as opened,
                status.telling_failure(),
            ):
                pool = opened.pool
                self._tell_of_embedded(opened)
                problem = self._pass_over(opened.bad)
                problem = self._keep_out(like_heldout, pool)
                if problem.nothing_to_pick:
                    return self._execute_nothing()
                problem = self._settle_noise(pool.mean_squared_norm())
                problem, self._floor = with_floor(problem, settings, pool, reporter)
                self._problem = problem
                reporter.info(f"picking {settings.selection.n:,} rows by {settings.acquisition.name}")
                with reporter.stage("select"):
                    earlier = self._earlier()
                    status.step("select", len(earlier), sum(pick.gain for pick, _ in earlier))
                    result = self._solve(problem, opened, earlier)
                if settings.selection.explain:
                    reporter.info("explaining the picks: one pass over the pool")
                    with reporter.stage("explain"):
                        status.step("explain", len(result.picks))
                        explanation = explain(problem, pool, result)
                with reporter.stage("compare"):
                    status.step("compare", len(result.picks))
                    if settings.evaluation.class_column and result.picks:
                        rule = settings.acquisition.name
                        comparison = count_on_task(problem, pool, result, rule, settings.evaluation)
                    sample = self._sample(opened) if result.picks else None
            status.step("write")
            with reporter.stage("write"):
                selection = self._finish(result, comparison, explanation, sample)
            self._report(selection, result, sample, comparison)
            status.finished(len(selection))
            if self._run is not None:
                self._run.tidy()
        return selection

    def _solve(self, problem: Problem, opened: OpenPool, earlier: list[tuple[Pick, Tensor]]) -> GreedyResult:
        asked = self._settings.pool.screening
        screening = None if asked == "auto" else cast(Precision, asked)
        return problem.solve(
            opened.pool, earlier, lambda p: self._on_progress(p, opened), screening, opened.has_room_for_copies
        )

    def _pass_over(self, bad: BadRows) -> Problem:
        """Return the problem without its bad rows, which are on record from now on."""
        self._problem = problem = without_bad_rows(self._problem, self._settings, bad)
        if len(problem.skipped):
            self._reporter.info(f"  {plural(len(problem.skipped), 'row')} cannot be used: passed over")
        if self._run is not None:
            write_skipped(self._run, problem)
        return problem

    def _keep_out(self, texts: Contamination, pool: Pool) -> Problem:
        """Return the problem without rows nearly equal to held-out ones, which are on record from now on."""
        problem, heldout = self._problem, self._problem.heldout
        if heldout is None:
            return problem
        found = texts.joined(contaminated_rows(problem, pool, self._reporter))
        self._problem = problem = keeping_out(problem, self._settings, found)
        self._reporter.info(f"  {heldout_words(len(problem.contamination), len(heldout))}")
        if self._run is not None:
            write_contamination(self._run, problem)
        return problem

    def _tell_of_embedded(self, opened: OpenPool) -> None:
        encoding = encoding_of(self._problem.source)
        if encoding is None:
            return
        self._num_embedded = opened.num_embedded
        found = self._problem.source.num_rows - opened.num_embedded - len(opened.bad)
        self._reporter.info(
            f"  embedded {plural(opened.num_embedded, 'row')}; {found:,} were known, or are like others"
        )

    def _settle_noise(self, mean_squared_norm: float) -> Problem:
        """Return the problem with the noise variance as a number; say what it is where nobody set it, or it drowns all.

        Args:
            mean_squared_norm: Of the pool's features.
        """
        self._problem = settled_noise(self._problem, self._settings, mean_squared_norm, self._reporter)
        drowned = noise_drowns_rows(self._problem.acquisition.noise_variance, mean_squared_norm)
        if drowned is not None:
            self._reporter.warn(drowned)
        self._mean_squared_norm = mean_squared_norm
        return self._problem

    def _execute_nothing(self) -> Selection:
        self._status.step("write")
        none = torch.empty(0, self._problem.dim, dtype=torch.float64)
        explanation = explanation_schema(self._problem).empty_table() if self._settings.selection.explain else None
        selection = self._finish(GreedyResult([], none, self._problem.start(), GreedyStats()), [], explanation)
        self._status.finished(0)
        if self._run is not None:
            self._run.tidy()
        return selection

    def _earlier(self) -> list[tuple[Pick, Tensor]]:
        """Return the picks that an earlier try put into the ledger, with their features."""
        entries = [] if self._ledger is None else self._ledger.read()
        if not entries or self._problem.baseline is not None:
            return []
        positions = np.array([entry.position for entry in entries])
        embeddings = self._problem.source.embeddings(positions)
        rows = rows_as_stored(self._problem.feature_map, embeddings, self._settings.pool.dtype)
        self._reporter.info(f"  {len(entries):,} picks are in the ledger already")
        groups = self._groups(positions)
        picks = [Pick(e.position, e.id, e.gain, e.cost, group) for e, group in zip(entries, groups, strict=True)]
        return list(zip(picks, rows, strict=True))

    def _groups(self, positions: np.ndarray) -> list[int]:
        spec = self._problem.cost_group_columns
        if spec is None:
            return [0] * len(positions)
        return costs_and_groups_at(self._problem.source, spec, positions).groups.tolist()

    def _on_progress(self, progress: Progress, opened: OpenPool) -> None:
        first = progress.num_picked - len(progress.new)
        if self._ledger is not None:
            self._ledger.append(
                [LedgerEntry(first + i, p.position, p.row_id, p.gain, p.cost) for i, p in enumerate(progress.new)]
            )
        gain = sum(pick.gain for pick in progress.new)
        self._reporter.picks(progress, self._status.picked(progress.num_picked, gain, progress.stats.passes))
        opened.on_progress(progress)

    def _sample(self, opened: OpenPool) -> RowBatch:
        """Return a random sample of the rows that can be used, for the report and what picks are judged by."""
        drawn = self._settings.run.map_sample if self._has_report else 0
        return opened.sample(max(SAMPLED_ROWS, drawn))

    @property
    def _has_report(self) -> bool:
        return self._run is not None and self._settings.run.report

    def _finish(
        self,
        result: GreedyResult,
        comparison: Sequence[dict],
        explanation: pa.Table | None,
        sample: RowBatch | None = None,
    ) -> Selection:
        selection = build_selection(self._problem, result, self._settings.pool.columns, explanation)
        dtype = STORAGE_DTYPES[self._settings.pool.dtype]
        metrics = run_metrics(self._problem, selection, self._reporter.seconds, self._problem.dim * dtype.itemsize)
        metrics["mean_squared_norm"] = self._mean_squared_norm
        if self._num_embedded is not None:
            metrics["embedded_rows"] = self._num_embedded
        metrics["comparison"] = list(comparison)
        metrics["next_gain"] = result.next_gain
        metrics["stop"] = result.stop
        if self._problem.notes:
            metrics["notes"] = list(self._problem.notes)
        metrics["limits"] = limits_used(self._problem, result)
        metrics["tasks"] = tasks_left(self._problem, result.state.posterior)
        if self._floor is not None:
            metrics["min_similarity"] = self._floor
        if sample is not None:
            judged_by = sample.features[:SAMPLED_ROWS]
            metrics["target_similarity"] = likeness_of(self._problem, result.features, judged_by)
            metrics["repeats"] = repeats_of(result.features, judged_by)
        path = None if self._run is None else self._run.path
        features = result.features.to(dtype)
        skipped = skipped_table(self._problem) if len(self._problem.skipped) else None
        selection = replace(
            selection,
            metrics=metrics,
            run_dir=path,
            picked_features=features,
            skipped=skipped,
            heldout=listed(self._problem),
            source_rows=SourceRows(self._problem.source, result.positions),
            options=changed(self._settings),
        )
        for warning in [*warnings_about(selection), *self._about_likeness(metrics, len(selection))]:
            self._reporter.warn(warning)
        if self._reporter.warnings:
            metrics["warnings"] = list(self._reporter.warnings)
        if self._run is not None:
            write_posterior(self._run, self._problem, result)
            write_picks(self._run, features)
            write_challengers(self._run, self._problem.source, result.close_calls)
            write_whole_rows(self._run, self._problem.source, result.positions, self._settings.run)
            write_selection(self._run, selection)
        return selection

    def _about_likeness(self, metrics: Mapping[str, Any], num_picks: int) -> list[str]:
        if "target_similarity" not in metrics:
            return []
        unlike = unlike_targets(self._problem, num_picks, metrics["target_similarity"])
        return [words for words in (unlike, repeating(self._problem, metrics["repeats"])) if words is not None]

    def _report(
        self, selection: Selection, result: GreedyResult, sample: RowBatch | None, comparison: Sequence[dict]
    ) -> None:
        if self._run is None or not self._has_report:
            return
        if sample is None:
            self._reporter.info("no report.html: nothing was picked")
            return
        sample = sample.take(np.argsort(sample.positions[: self._settings.run.map_sample]))
        data = build_report(
            self._problem, self._settings, selection, result, sample, comparison, self._reporter.warnings
        )
        try:
            write_atomic(self._run.path / "report.html", render(data).encode())
        except MissingExtraError as error:
            self._reporter.warn(f"no report.html: {error}")
