"""What every job does around its work: errors become one clear line and an exit code a scheduler can use."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from ray_itl.errors import BusyError, ConfigError, InputError, RayItlError
from ray_itl.io.credentials import masked
from ray_itl.io.outages import may_pass, outage
from ray_itl.settings import CurationSettings

P = ParamSpec("P")
R = TypeVar("R")


_STOPPED = 128 + signal.SIGTERM


class Stopped(SystemExit):
    """SIGTERM came: whoever keeps a status writes down that work has ended, and the process exits with 143."""

    def __init__(self) -> None:
        super().__init__(_STOPPED)

    def __str__(self) -> str:
        return "stopped by SIGTERM: the same command continues"


def guarded(job: Callable[P, R]) -> Callable[P, R]:
    """Wrap a job's main: exit codes for failures of ours, with one line on stderr.

    They are 2 for bad options or data, 75 (the EX_TEMPFAIL of sysexits.h) where another process is at work and trying
    again later helps, 143 after a SIGTERM, and 1 for anything else.

    Errors that are neither ours nor of storage are bugs: they end it with exit code 1, too, and their traceback.
    """

    @functools.wraps(job)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _stopped_by_sigterm():
                return job(*args, **kwargs)
        except Stopped as error:
            end_with(_STOPPED, error)
        except RayItlError as error:
            end_with(_exit_code(error), error)
        except MemoryError:
            end_with(1, RayItlError("this process has run out of memory: give it more, or use more and smaller shards"))
        except Exception as error:
            if may_pass(error):
                end_with(1, outage("a file cannot be read or written", error))
            traceback.print_exc()
            sys.exit(1)

    return wrapped


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Turn a SIGTERM into `Stopped`; left to itself it would end the process with a status that says "running"."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_code(error: RayItlError) -> int:
    if isinstance(error, BusyError):
        return os.EX_TEMPFAIL
    return 2 if isinstance(error, InputError | ConfigError) else 1


def end_with(code: int, error: BaseException) -> NoReturn:
    """End the process with an exit code and an error in one line on stderr."""
    sys.stderr.write(f"error: {one_line(str(error))}\n")
    sys.exit(code)


def one_line(text: str) -> str:
    """Return a message in one line, without credentials, and with what cannot be printed escaped.

    Names of files and columns come from elsewhere: they are not to move the cursor or to fake a line of a log.
    """
    joined = masked("; ".join(line.strip() for line in text.splitlines() if line.strip()))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


def submission_id() -> str | None:
    """Return the id under which `ray job submit` runs this process, or None."""
    try:
        return json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]["job_submission_id"]
    except (KeyError, ValueError, TypeError):
        return None


def with_absolute_paths(settings: CurationSettings) -> CurationSettings:
    """Return the settings with absolute paths, so that config.yaml replays the run from any working directory.

    run.dir becomes runs/<time> where neither it nor state.dir is set.

    Raises:
        ConfigError: under `ray job submit`, whose working directory is a copy that vanishes with the job, unless
            run.dir is absolute.
    """
    state = replace(settings.state, dir=state_directory(settings.state.dir))
    is_tick_without_run = state.dir is not None and settings.run.dir is None
    path = None if is_tick_without_run else run_directory(settings.run.dir)
    pool, target, known, cluster = settings.pool, settings.target, settings.known, settings.cluster
    home = str(cluster.cache_dir).startswith("~")  # that of each shard's machine
    return replace(
        settings,
        pool=replace(pool, path=absolute_path(pool.path), prior_covariance=absolute_path(pool.prior_covariance)),
        target=replace(target, path=absolute_path(target.path)),
        known=replace(known, path=absolute_path(known.path)),
        cluster=cluster if home else replace(cluster, cache_dir=absolute_path(cluster.cache_dir)),
        run=replace(settings.run, dir=path),
        state=state,
    )


def state_directory(path: str | None) -> str | None:
    """Return the absolute state directory for the option state.dir; a URI or None stays as it is.

    Raises:
        ConfigError: under `ray job submit`, unless the option is absolute (see `run_directory`).
    """
    if path is None or "://" in path or Path(path).is_absolute():
        return path
    if submission_id() is not None:
        raise ConfigError(
            f"state.dir={path} must be an absolute path or a URI under ray job submit: the job's working directory is "
            "a copy that vanishes with the job"
        )
    return str(Path(path).absolute())


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
    if path is not None and "://" in path:
        raise ConfigError(
            "run.dir cannot be a URI: give a path, on a mounted filesystem where it has to outlive this machine"
        )
    return str(Path(path or f"runs/{time.strftime('%Y%m%d-%H%M%S')}").absolute())


def absolute_path(path: Any) -> Any:
    """Return a local path (or a list of them) made absolute, as text; a URI, None or anything else stays as it is."""
    if path is None or (isinstance(path, str) and "://" in path):
        return path
    if isinstance(path, list | tuple):
        return [absolute_path(part) for part in path]
    return str(Path(path).absolute()) if isinstance(path, str | os.PathLike) else path
