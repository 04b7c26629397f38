"""What every job does around its work: errors become one clear line and an exit code a scheduler can use."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec, TypeVar

from ray_itl.cli.bug_report import write_bug_report
from ray_itl.cli.library_output import in_our_form
from ray_itl.errors import (
    BusyError,
    ConfigError,
    InputError,
    MissingExtraError,
    NumericalError,
    RayItlError,
    UnfinishedFileError,
)
from ray_itl.io.credentials import one_line
from ray_itl.io.filesystems import is_transient, transient_error
from ray_itl.io.temporary import sweep
from ray_itl.observability.console import json_line

P = ParamSpec("P")
R = TypeVar("R")
_SIGNAL_EXIT = 128
"""A shell's exit code of a process that a signal ended, less the signal's number."""


def guarded(job: Callable[P, R]) -> Callable[P, R]:
    """Wrap a job's main: exit codes for failures of ours, with one line on stderr.

    They are 2 for bad options or data (an option whose library is not installed among them, or a number that float64
    cannot resolve), 75 (the EX_TEMPFAIL of sysexits.h) where another process is at work, or still writing a file that
    is to be read, and trying again later helps, 143 and 130 after SIGTERM and SIGINT (Ctrl-C), upon which a job clears
    up as after any error, and 1 for anything else.

    Errors that are neither ours nor of storage are bugs: they end it with exit code 1, too, and one line that names a
    file with their traceback. With run.log=json every error is one JSON object on stderr.
    """

    @functools.wraps(job)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        log = _log_of(*args)
        in_json = log == "json"
        sweep()  # what killed runs left in the temporary directory
        try:
            with _terminable(), in_our_form(log):
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
            if is_transient(error):
                end_with(1, transient_error("a file cannot be read or written", error), in_json)
            end_with(1, _bug(error), in_json)

    return wrapped


def _bug(error: Exception) -> RayItlError:
    """Return what is said of an error that nobody foresaw, once a file has it in full."""
    try:
        where = f"please report it with {write_bug_report(error)}, which has the command, versions and traceback"
    except OSError as unwritable:
        where = f"{traceback.format_exc()}; no file of it could be written ({unwritable})"
    return RayItlError(f"this is a bug of ray_itl ({type(error).__name__}: {str(error)[:200]}): {where}")


def _log_of(*args: object) -> str:
    """Return run.log of the composed configuration of a job, or "lines": some have no such option."""
    run = getattr(args[0], "run", None) if args else None
    return str(getattr(run, "log", "lines"))


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
    if isinstance(error, BusyError | UnfinishedFileError):
        return os.EX_TEMPFAIL
    return 2 if isinstance(error, InputError | ConfigError | MissingExtraError | NumericalError) else 1


def open_closed_streams() -> None:
    """Point standard streams that this process was started without (as by `2>&-`) to nowhere.

    Otherwise the next file that is opened takes their number, and what is meant for people is written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the smallest free number: this one, unless it is taken already
            setattr(sys, name, os.fdopen(nowhere, "r" if number == 0 else "w"))


def end_with(code: int, error: Exception, in_json: bool = False) -> NoReturn:
    """End the process with an exit code and an error in one line on stderr: words, or JSON."""
    message = one_line(str(error))
    told = {"event": "error", "time": round(time.time(), 3), "error": type(error).__name__, "message": message}
    told["exit_code"] = code
    sys.stderr.write(f"{json_line(told) if in_json else f'error: {message}'}\n")
    sys.exit(code)
