"""Paths that outlive the process: absolute, and not in the copy that `ray job submit` works in."""

from __future__ import annotations

import os
import time
from pathlib import Path
from secrets import token_hex
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.runs.environment import submission_id


def lasting_path(option: str, path: str | None) -> str | None:
    """Return the absolute path for an option that names what outlives the job; a URI or None stays as it is.

    Raises:
        ConfigError: under `ray job submit`, unless the option is absolute (see `run_directory`).
    """
    if path is None or "://" in path or Path(path).is_absolute():
        return path
    if submission_id() is not None:
        raise ConfigError(
            f"{option}={path} must be an absolute path or a URI under ray job submit: the job's working directory is "
            "a copy that vanishes with the job"
        )
    return str(Path(path).absolute())


def run_directory(path: str | None) -> str:
    """Return the absolute run directory for the option run.dir; runs/<time> where it is not set.

    Random digits follow the time, so that two jobs of one second do not meet.

    Raises:
        ConfigError: under `ray job submit`, whose working directory is a copy that vanishes with the job, unless
            the option is absolute.
    """
    if submission_id() is not None and (path is None or not Path(path).is_absolute()):
        raise ConfigError(
            f"run.dir={path} must be an absolute path under ray job submit: the job's working directory is a copy that "
            "vanishes with the job. Give one that the head node and the people who want the results can read"
        )
    if path is not None and "://" in path:
        raise ConfigError(
            "run.dir cannot be a URI: give a path, on a mounted filesystem where it has to outlive this machine"
        )
    return str(Path(path or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(3)}").absolute())


def absolute_path(path: Any) -> Any:
    """Return a local path (or a list of them) made absolute, as text; a URI, None or anything else stays as it is."""
    if path is None or (isinstance(path, str) and "://" in path):
        return path
    if isinstance(path, list | tuple):
        return [absolute_path(part) for part in path]
    return str(Path(path).absolute()) if isinstance(path, str | os.PathLike) else path
