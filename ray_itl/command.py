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

from ray_itl.errors import BusyError, ConfigError, InputError, MissingExtraError, RayItlError
from ray_itl.io.credentials import masked
from ray_itl.io.outages import may_pass, outage
from ray_itl.settings import CurationSettings
from ray_itl.telling.json_lines import json_line
from ray_itl.tracking.settings import TrackingSettings

P = ParamSpec("P")
R = TypeVar("R")
_SIGNAL_EXIT = 128
"""A shell's exit code of a process that a signal ended, less the signal's number."""


def guarded(job: Callable[P, R]) -> Callable[P, R]:
    """Wrap a job's main: exit codes for failures of ours, with one line on stderr.

    They are 2 for bad options or data (an option whose library is not installed among them), 75 (the EX_TEMPFAIL of
    sysexits.h) where another process is at work and trying again later helps, 143 and 130 after SIGTERM and SIGINT
    (Ctrl-C), upon which a job clears up as after any error, and 1 for anything else.

    Errors that are neither ours nor of storage are bugs: they end it with exit code 1, too, and their traceback. With
    run.log=json every error is one JSON object on stderr.
    """

    @functools.wraps(job)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        in_json = _asks_for_json(*args)
        try:
            with _terminable():
                return job(*args, **kwargs)
        except KeyboardInterrupt:
            end_with(_SIGNAL_EXIT + signal.SIGINT, RayItlError("stopped by SIGINT"), in_json)
        except _Terminated:
            end_with(_SIGNAL_EXIT + signal.SIGTERM, RayItlError("stopped by SIGTERM"), in_json)
        except RayItlError as error:
            end_with(_exit_code(error), error, in_json)
        except MemoryError:
            remedy = "give it more, or use more and smaller shards"
            end_with(1, RayItlError(f"this process has run out of memory: {remedy}"), in_json)
        except Exception as error:
            if may_pass(error):
                end_with(1, outage("a file cannot be read or written", error), in_json)
            if in_json:
                end_with(1, error, in_json, traceback=traceback.format_exc())
            sys.stderr.write(masked(traceback.format_exc()))
            sys.exit(1)

    return wrapped


def _asks_for_json(*args: object) -> bool:
    """Whether the composed configuration of a job has run.log=json; some have no such option."""
    run = getattr(args[0], "run", None) if args else None
    return getattr(run, "log", None) == "json"


class _Terminated(SystemExit):
    """SIGTERM came."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM raise in the main thread, so that work that it ends says so and gives back what it holds."""

    def terminate(*_: object) -> NoReturn:
        raise _Terminated(_SIGNAL_EXIT + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # by the handler that Ray puts in place of this one as it connects
            raise _Terminated(_SIGNAL_EXIT + signal.SIGTERM) from end
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_code(error: RayItlError) -> int:
    if isinstance(error, BusyError):
        return os.EX_TEMPFAIL
    return 2 if isinstance(error, InputError | ConfigError | MissingExtraError) else 1


def end_with(code: int, error: Exception, in_json: bool = False, **facts: str) -> NoReturn:
    """End the process with an exit code and an error in one line on stderr: words, or JSON with `facts`."""
    message = one_line(str(error))
    told = {"event": "error", "time": round(time.time(), 3), "error": type(error).__name__, "message": message}
    told |= {"exit_code": code, **{name: masked(text) for name, text in facts.items()}}
    sys.stderr.write(f"{json_line(told) if in_json else f'error: {message}'}\n")
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
    state = replace(settings.state, dir=lasting_path("state.dir", settings.state.dir))
    is_tick_without_run = state.dir is not None and settings.run.dir is None
    path = None if is_tick_without_run else run_directory(settings.run.dir)
    pool, target, known, cluster = settings.pool, settings.target, settings.known, settings.cluster
    chosen = settings.selection
    home = str(cluster.cache_dir).startswith("~")  # that of each shard's machine
    return replace(
        settings,
        pool=replace(pool, path=absolute_path(pool.path), prior_covariance=absolute_path(pool.prior_covariance)),
        target=replace(target, path=absolute_path(target.path)),
        known=replace(known, path=absolute_path(known.path)),
        avoid=replace(settings.avoid, path=absolute_path(settings.avoid.path)),
        selection=replace(chosen, exclude=absolute_path(chosen.exclude), include=absolute_path(chosen.include)),
        cluster=cluster if home else replace(cluster, cache_dir=absolute_path(cluster.cache_dir)),
        run=replace(settings.run, dir=path),
        state=state,
        tracking=absolute_tracking(settings.tracking),
    )


def absolute_tracking(tracking: TrackingSettings) -> TrackingSettings:
    """Return the settings of tracking with an absolute path; ConfigError as for `lasting_path`."""
    return replace(tracking, tensorboard_dir=lasting_path("tracking.tensorboard_dir", tracking.tensorboard_dir))


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
