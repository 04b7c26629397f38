"""What libraries write past us: bars off, warnings in lines of ours, and nothing of Ray's core in a program's log."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ray_itl.io.credentials import one_line
from ray_itl.observability.console import json_line, write_line

_BARS = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
"""Variables that turn progress bars off, also in processes that this one starts."""
_CORE_LINE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,]+ [IWE] \d+ \d+\] ")
"""How a line of Ray's core begins, which it writes to its own log files, too."""
_LAST = b"\0nothing more of this job\0"
_DRAIN_S = 5.0


@contextmanager
def in_our_form(log: str) -> Iterator[None]:
    """Keep what libraries write within a `with` block to the form of telling that run.log asks for.

    Warnings of Python and records of loggers without a handler become a line each: `warning: ...` on standard error,
    or, with json, an object on standard output. Progress bars are off. With quiet and json, where programs read, lines
    of Ray's core are left out of standard error.
    """
    for name in _BARS:
        os.environ.setdefault(name, "1")

    def tell(message: object, source: str) -> None:
        text = f"{one_line(str(message))} ({source})"
        if log == "json":
            write_line(sys.stdout, json_line({"event": "warning", "time": round(time.time(), 3), "message": text}))
        else:
            write_line(sys.stderr, f"warning: {text}")

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        tell(message, category.__name__)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(record.getMessage(), record.name)

    shown, last_resort = warnings.showwarning, logging.lastResort
    with ExitStack() as stack:
        stack.callback(setattr, warnings, "showwarning", shown)
        stack.callback(setattr, logging, "lastResort", last_resort)
        warnings.showwarning, logging.lastResort = show, Handler(logging.WARNING)
        if log in ("quiet", "json"):
            stack.enter_context(_without_core_lines())
        yield


@contextmanager
def _without_core_lines() -> Iterator[None]:
    """Pass on what is written to standard error, by whatever means, but lines of Ray's core."""
    try:
        kept = os.dup(2)
    except OSError:  # the process was started without
        yield
        return
    reading, writing = os.pipe()
    drained = threading.Event()
    # Processes that outlive the block may hold the other end: the thread reads on for as long as there are any.
    thread = threading.Thread(target=_pass_on, args=(reading, kept, drained), name="stderr", daemon=True)
    thread.start()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # of a stream that was closed meanwhile
            if sys.stderr is not None:
                sys.stderr.flush()
            os.write(2, _LAST)
            drained.wait(_DRAIN_S)
        os.dup2(kept, 2)


def _pass_on(reading: int, kept: int, drained: threading.Event) -> None:
    """Copy lines from one descriptor to another until nobody can write any more, and close both."""
    rest = b""
    while chunk := os.read(reading, 1 << 16):
        before, last, after = (rest + chunk).partition(_LAST)
        *lines, rest = before.split(b"\n")
        _write(kept, b"".join(line + b"\n" for line in lines if not _CORE_LINE.match(line)))
        if last or not (rest.startswith(b"[") or b"\0" in rest):  # the beginning of a line, and not of one of these
            _write(kept, rest)
            rest = after
        if last:
            drained.set()
    _write(kept, rest)
    drained.set()
    os.close(reading)
    os.close(kept)


def _write(descriptor: int, content: bytes) -> None:
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError:  # closed or full: the run is worth more than its log
        return
