"""A process with a limit on its memory and on its time, and what became of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ray_itl.benchmark.machine import tree_memory

Ending = Literal["done", "time", "memory", "error"]
_PERIOD_S = 0.1
_SAID_CHARS = 300
_NO_MEMORY = ("memoryerror", "can't allocate memory", "unable to allocate", "bad_alloc")
"""In the last words of a process that was refused memory."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    ending: Ending
    said: str
    """The last line it wrote to stderr, shortened."""


def run_bounded(
    command: Sequence[str], *, seconds: float, memory_bytes: int, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run a command until it ends or exceeds a limit; then it and all its children are killed.

    A process may also limit its own time by an alarm (`signal.setitimer`), of which it dies; that is "time", too.

    Args:
        command: Program and arguments. Its stdout is dropped.
        seconds: Limit on its time.
        memory_bytes: Limit on the resident memory of it and its children, which is looked at ten times a second
            (Linux); what a process takes and returns in between is not seen.
        environment: Variables to set, over those of this process.
    """
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            ending = _watch(process, time.monotonic() + seconds, memory_bytes)
        finally:
            _end(process)
        messages.seek(0)
        lines = messages.read().decode(errors="replace").strip().splitlines()
    said = lines[-1][:_SAID_CHARS] if lines else ""
    if ending == "error" and any(words in said.lower() for words in _NO_MEMORY):
        ending = "memory"
    return Outcome(ending, said)


def _watch(process: subprocess.Popen[bytes], deadline: float, memory_bytes: int) -> Ending:
    while True:
        try:
            code = process.wait(_PERIOD_S)
        except subprocess.TimeoutExpired:
            if tree_memory(process.pid) > memory_bytes:
                return "memory"
            if time.monotonic() > deadline:
                return "time"
            continue
        if code == -signal.SIGALRM:
            return "time"
        if code == -signal.SIGKILL:  # not by us: the system has run out of memory
            return "memory"
        return "error" if code else "done"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the process's session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
