"""A finished run opened again to check it: its options, and the problem that it solved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.core.similarity_floor import SimilarityFloor, target_directions
from ray_itl.curation.constraints import with_limits, with_lists
from ray_itl.curation.decontamination import keeping_out, read_contamination
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.identity import ASKED, run_identity
from ray_itl.curation.inputs import FROM_OPTIONS
from ray_itl.curation.open import open_problem, with_noise
from ray_itl.curation.pool_rows import as_it_was
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings, EvaluationSettings
from ray_itl.curation.skipping import passing_over, read_skipped
from ray_itl.errors import ConfigError, InputError
from ray_itl.options.text import from_yaml
from ray_itl.queries.reading import query_identity, read_queries
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.parquet import ParquetSource
from ray_itl.ticks.problem import reopen_tick
from ray_itl.verification.replay import dense_definition


class ReopenedRun(NamedTuple):
    """What a run solved, and where its answer is."""

    run: RunDirectory
    options: CurationSettings
    """Its noise variance, too, as a number."""
    problem: Problem
    """With its lists and limits, its noise variance and the floor under similarity as numbers."""
    source: ParquetSource
    """The problem's."""


def reopen_run(folder: str | None) -> ReopenedRun:
    """Open what the run in a folder read, as it did.

    Raises:
        ConfigError: no folder is named, or the run's rule has nothing to check.
        InputError: no finished run there, or one on rows in memory, or what it read has changed.
    """
    run, options = _finished_run(folder)
    options = replace(options, evaluation=EvaluationSettings())  # which decides nothing, and may name what is gone
    problem = _reopened(run, options)
    noise = run.read_metrics().get("noise_variance")
    if options.acquisition.noise_variance is None and noise is not None:
        options = replace(options, acquisition=replace(options.acquisition, noise_variance=noise, relative_noise=None))
        problem = with_noise(problem, options.acquisition)
    problem = _with_recorded_floor(problem, run.read_metrics())
    return ReopenedRun(run, options, problem, cast(ParquetSource, problem.source))


def _with_recorded_floor(problem: Problem, metrics: Mapping[str, Any]) -> Problem:
    """Return the problem with the floor that metrics.json records, if it is asked for and records any."""
    found = metrics.get("min_similarity")
    if problem.selection.min_similarity is None or found is None:
        return problem
    floor = SimilarityFloor(target_directions(problem.targets), found["limit"])
    return replace(problem, limits=replace(problem.limits, floor=floor))


def read_table(path: Path) -> pa.Table:
    """Return a Parquet file of a run; InputError where it cannot be read."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it to check the run") from error


def _finished_run(folder: str | None) -> tuple[RunDirectory, CurationSettings]:
    if folder is None:
        raise ConfigError("run.dir is not set: name the directory of a finished run")
    run = RunDirectory(folder, may_differ=ASKED)
    state = run.state
    if state != "finished":
        what = "an unfinished run: finish it with the command that began it, then check"
        what = "no run: name the directory of a finished one" if state == "new" else what
        raise InputError(f"run.dir={run.path} holds {what}")
    try:
        options = from_yaml((run.path / "config.yaml").read_text("utf-8"), CurationSettings)
    except OSError as error:
        raise InputError(f"{run.path / 'config.yaml'} cannot be read ({error.strerror}): restore it") from error
    if options.acquisition.name == "random":
        raise ConfigError("acquisition.name=random: random picks are the best of nothing, so there is nothing to check")
    if options.acquisition.in_memory:
        raise InputError(f"acquisition was in memory ({options.acquisition.name}) and is gone: nothing can be checked")
    dense_definition(options.acquisition)  # raises where there is nothing to compare with
    groups = ("pool", "target", "known", "avoid", "heldout")
    paths = [(name, getattr(options, name).path) for name in groups]
    paths += [(f"selection.{name}", getattr(options.selection, name)) for name in ("exclude", "include")]
    paths.append(("encoder", options.encoder.name))
    for name, path in paths:
        if isinstance(path, str) and path.startswith("<"):
            raise InputError(f"{name} was in memory ({path}) and is gone: only runs on files can be checked")
    return run, options


def _reopened_alone(options: CurationSettings, pool: Manifest) -> Problem:
    """Return the problem of a run that was no tick, without the files that had not settled then."""
    problem = open_problem(as_it_was(options, pool))
    if not pool.unsettled:
        return problem
    source = cast(ParquetSource, problem.source)
    settled = [file for file in source.manifest.files if file.path not in pool.unsettled]
    return replace(problem, source=source.only(settled)) if settled else problem


def _reopened(run: RunDirectory, options: CurationSettings) -> Problem:
    listed = run.path / SKIPPED_FILE
    if listed.exists():  # whatever the try said that wrote config.yaml
        options = replace(options, pool=replace(options.pool, on_bad_row="skip"))
    pool = run.read_pool_manifest()
    problem = _reopened_alone(options, pool) if options.state.dir is None else reopen_tick(options, pool)
    problem = with_limits(with_lists(problem, options), options, expects_values=False)  # earlier versions did not
    identity = run_identity(problem, options)
    if options.target.query_column is not None:
        identity |= query_identity(options, read_queries(problem, options, FROM_OPTIONS))
    changed = run.changes(identity)
    if changed:
        raise InputError(
            f"run.dir={run.path}: what the run read is no longer what it was (changed: {', '.join(changed)}); restore "
            "it to check the run"
        )
    source = cast(ParquetSource, problem.source)
    if listed.exists():
        problem = passing_over(problem, options, read_skipped(read_table(listed), source))
    if problem.heldout is None:
        return problem
    found = read_contamination(read_table(run.path / HELDOUT_FILE), problem, source)
    return keeping_out(problem, options, found)
