"""What any run over a pool does before it picks, for one target or many: open the inputs, load, settle the noise."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from ray_itl.curation.constraints import with_lists
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.lengthscale import with_begun_lengthscale
from ray_itl.curation.open import open_problem, with_noise
from ray_itl.curation.pool import OpenPool, open_pool
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.observability.reporter import Reporter
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.base import PoolSource


class Rows(Protocol):
    """The rows of a pool, loaded once for many selections (see `loaded_rows`)."""

    def source(self, settings: CurationSettings) -> PoolSource:
        """Return the rows that meet some options."""
        ...

    def opened(self, problem: Problem, settings: CurationSettings) -> AbstractContextManager[OpenPool]:
        """Return the rows of a problem as a loaded pool, for as long as its selection takes."""
        ...


def with_begun(settings: CurationSettings, identity: Mapping[str, str], reporter: Reporter) -> CurationSettings:
    """Return the options with what a run or state directory of an identity was begun with, where they leave it open.

    That is the lengthscale where it is auto, and the noise where it was another by default.
    """
    settings = with_begun_lengthscale(settings, identity, reporter.info)
    return replace(settings, acquisition=settings.acquisition.as_begun(identity))


def telling(inputs: Inputs, reporter: Reporter) -> Inputs:
    """Return inputs of which a reporter tells what is parsed, guessed and embedded while they are opened."""
    return replace(inputs, on_text=reporter.texts(), tell=reporter.info, on_rows=reporter.rows_of("embedded"))


def prepared_problem(settings: CurationSettings, inputs: Inputs, rows: Rows | None) -> Problem:
    """Open pool, target and all else that is read, lists of ids included; errors as of `open_problem`.

    `rows` are those of the pool, where they are loaded already.
    """
    source = None if rows is None else rows.source(settings)
    return with_lists(open_problem(settings, inputs, source), settings, inputs)


def loaded_pool(
    problem: Problem, settings: CurationSettings, reporter: Reporter, rows: Rows | None, run: RunDirectory | None
) -> AbstractContextManager[OpenPool]:
    """Return the pool of a problem, loaded for as long as its run takes; errors as of `open_pool`."""
    if rows is not None:
        return rows.opened(problem, settings)
    return open_pool(problem, settings, reporter, "" if run is None else run.path.name)


def settled_noise(
    problem: Problem,
    settings: CurationSettings,
    mean_squared_norm: float,
    reporter: Reporter,
    num_targets: float | None = None,
) -> Problem:
    """Return the problem with the noise variance as a number, and say what it is where nobody set it.

    Args:
        problem: Its noise may be relative to the rows.
        settings: The options.
        mean_squared_norm: Of the pool's features.
        reporter: Told.
        num_targets: Of the smallest query, where targets belong to several.
    """
    if not problem.noise_is_relative:
        return problem
    options, count = settings.acquisition, num_targets or problem.fewest_targets
    problem = with_noise(problem, options.on_rows(mean_squared_norm, count))
    multiple = options.noise_multiple(count)
    many = "is 1 target" if count == 1 else f"are {count:.3g} targets"
    why = f", since there {many} alone (acquisition.relative_noise)"
    reporter.info(
        f"noise variance {problem.acquisition.noise_variance:g}: {multiple:.3g} times the mean squared norm of the "
        f"pool's rows{why if options.relative_noise is None and multiple > 1 else ''}"
    )
    return problem
