"""What every job does around its work: errors become one clear line and an exit code a scheduler can use."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ray_itl.errors import ConfigError, InputError, RayItlError
from ray_itl.settings import CurationSettings

P = ParamSpec("P")
R = TypeVar("R")


def guarded(job: Callable[P, R]) -> Callable[P, R]:
    """Wrap a job's main: exit code 2 for bad options or data, 1 for other failures of ours, with one line on stderr.

    Errors that are not ours keep their traceback: they are bugs.
    """

    @functools.wraps(job)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return job(*args, **kwargs)
        except RayItlError as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(2 if isinstance(error, InputError | ConfigError) else 1)

    return wrapped


def submission_id() -> str | None:
    """Return the id under which `ray job submit` runs this process, or None."""
    try:
        return json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]["job_submission_id"]
    except (KeyError, ValueError, TypeError):
        return None


def with_absolute_paths(settings: CurationSettings) -> CurationSettings:
    """Return the settings with absolute paths, so that config.yaml replays the run from any working directory.

    run.dir becomes runs/<time> where none is set.

    Raises:
        ConfigError: under `ray job submit`, whose working directory is a copy that vanishes with the job, unless
            run.dir is absolute.
    """
    path = run_directory(settings.run.dir)
    pool, target, known, cluster = settings.pool, settings.target, settings.known, settings.cluster
    home = str(cluster.cache_dir).startswith("~")  # that of each shard's machine
    return replace(
        settings,
        pool=replace(pool, path=absolute_path(pool.path), prior_covariance=absolute_path(pool.prior_covariance)),
        target=replace(target, path=absolute_path(target.path)),
        known=replace(known, path=absolute_path(known.path)),
        cluster=cluster if home else replace(cluster, cache_dir=absolute_path(cluster.cache_dir)),
        run=replace(settings.run, dir=path),
    )


def run_directory(path: str | None) -> str:
    """Return the absolute run directory for the option run.dir; runs/<time> where it is not set.

    Raises:
        ConfigError: under `ray job submit`, whose working directory is a copy that vanishes with the job, unless
            the option is absolute.
    """
    if submission_id() is not None and (path is None or not Path(path).is_absolute()):
        raise ConfigError(
            f"run.dir={path} must be an absolute path under ray job submit: the job's working directory is a copy that "
            "vanishes with the job. Give one that the head node and the people who want the results can read"
        )
    return str(Path(path or f"runs/{time.strftime('%Y%m%d-%H%M%S')}").absolute())


def absolute_path(path: Any) -> Any:
    """Return a local path (or a list of them) made absolute, as text; a URI, None or anything else stays as it is."""
    if path is None or (isinstance(path, str) and "://" in path):
        return path
    if isinstance(path, list | tuple):
        return [absolute_path(part) for part in path]
    return str(Path(path).absolute()) if isinstance(path, str | os.PathLike) else path
