"""What can be known before the work begins is checked then: by a run before it loads a row, and by its plan."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ray_itl.curation.identity import ASKED, recorded_identity
from ray_itl.curation.problem import Problem
from ray_itl.curation.pushing import check_push, note_in
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.whole_rows import form_of
from ray_itl.embedding.cached import CachedEncoding
from ray_itl.errors import ConfigError, MissingExtraError
from ray_itl.extras import load_extra
from ray_itl.runs.directory import RunDirectory
from ray_itl.shards.loading import STORAGE_DTYPES
from ray_itl.sources.encoding import encoding_of
from ray_itl.text import format_size

_SAMPLE_ROWS = 32
_CERTAIN = 2.0
"""How far the size of carried columns, judged by some rows, may be off."""
_FLOAT_BYTES, _OTHER_BYTES = 8, 200


def check_before(problem: Problem, settings: CurationSettings) -> list[str]:
    """Check a problem with its lists and limits, and where its results will go.

    Returns:
        Sentences about what will not be as asked for, though the run goes on.

    Raises:
        ConfigError: the options ask for more picks than there are rows, or for results larger than their disk.
        MissingExtraError: a library for tracking, or for pushing, is not installed.
        InputError, StorageError: picks cannot be pushed to where they are to be.
    """
    _check_number(problem)
    if isinstance(encoding := encoding_of(problem.source), CachedEncoding):
        encoding.store.check_limit(problem.source.num_rows)
    form_of(problem.source, settings.run.output)
    check_libraries(settings)
    if settings.state.dir is None:  # ticks know what they pushed
        check_push(settings, None if settings.run.dir is None else note_in(Path(settings.run.dir)))
    return [*_about_room(problem, settings), *_about_report(settings)]


def check_run_directory(problem: Problem, settings: CurationSettings) -> None:
    """Raise what `RunDirectory.begin` would for this run; nothing is created."""
    if settings.run.dir is not None and settings.state.dir is None:
        RunDirectory(settings.run.dir, may_differ=ASKED).check(recorded_identity(problem, settings))


def check_libraries(settings: CurationSettings) -> None:
    """Raise MissingExtraError where tracking needs a library that is not installed."""
    if settings.tracking.mlflow_uri is not None:
        load_extra("mlflow", "tracking.mlflow_uri", "mlflow")
    if settings.tracking.tensorboard_dir is not None:
        load_extra("tensorboardX", "tracking.tensorboard_dir", "tensorboard")


def _check_number(problem: Problem) -> None:
    n, free = problem.selection.n, problem.num_free
    if problem.baseline is not None and n > free and not problem.nothing_to_pick:
        raise ConfigError(f"selection.n={n}, but the pool has {free} rows to pick from: ask for 1 to that many")


def _about_report(settings: CurationSettings) -> list[str]:
    if settings.run.dir is None or not settings.run.report:
        return []
    try:
        for module in ("plotly", "jinja2"):
            load_extra(module, "run.report", "report")
    except MissingExtraError as error:
        return [f"there will be no report.html: {error}"]
    return []


def _about_room(problem: Problem, settings: CurationSettings) -> list[str]:
    """Compare the free space of the run directory's disk with what results take, carried columns by some rows."""
    if settings.run.dir is None:
        return []
    picks = min(problem.selection.n, problem.num_free) if not problem.selection.replacement else problem.selection.n
    known = _FLOAT_BYTES * problem.dim**2 + picks * (
        problem.dim * STORAGE_DTYPES[settings.pool.dtype].itemsize + _OTHER_BYTES
    )
    carried = int(picks * _mean_bytes(problem, settings.pool.columns))
    folder = RunDirectory(settings.run.dir).nearest
    free = shutil.disk_usage(folder).free
    words = (
        f"run.dir={settings.run.dir} has {format_size(free)} free, but results take about "
        f"{format_size(known + carried)}"
    )
    remedy = "free some space, choose another disk" + (", or carry fewer pool.columns" if carried else "")
    if known + carried / _CERTAIN > free:
        raise ConfigError(f"{words}: {remedy}")
    return [f"{words}, judged by {_SAMPLE_ROWS} rows: {remedy}"] if known + carried > free else []


def _mean_bytes(problem: Problem, columns: list[str]) -> float:
    """Return the mean size in bytes of the columns of a row, from a few rows."""
    if not columns:
        return 0.0
    rows = np.unique(np.linspace(0, problem.source.num_rows - 1, _SAMPLE_ROWS).astype(np.int64))
    return problem.source.take(rows, columns).nbytes / len(rows)
