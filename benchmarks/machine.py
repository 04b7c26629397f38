"""The machine that a benchmark ran on, the memory of a process with its children, and processes with limits."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

_PERIOD_S = 0.5
Ending = Literal["done", "time", "memory", "error"]
_LOOK_EVERY_S = 0.1
_SAID_CHARS = 300
_NO_MEMORY = ("memoryerror", "can't allocate memory", "unable to allocate", "bad_alloc")
"""In the last words of a process that was refused memory."""


def describe() -> str:
    """Return one line: processor, cores, memory, versions."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line),
        platform.processor() or platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB; {versions}"


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads within the block; 0: on as many as it takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class PeakMemory:
    """The largest value of some measure of memory, which is taken twice a second while open."""

    def __init__(self, measure: Callable[[], int]) -> None:
        self.peak_bytes = 0
        self._measure = measure
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self.peak_bytes = max(self.peak_bytes, self._measure())


def tree_memory(pid: int) -> int:
    """Return the memory of a process and all its descendants now, in bytes (Linux).

    Proportional set sizes (PSS) are summed, so that pages shared between processes, Ray's object store among them,
    count once.
    """
    return sum(_pss(each) for each in _descendants(pid))


def resident_memory() -> int:
    """Return the resident memory of this process now, in bytes (Linux)."""
    return _status_bytes("self", "VmRSS")


def peak_memory() -> int:
    """Return the largest resident memory of this process since `forget_peak`, in bytes (Linux)."""
    return _status_bytes("self", "VmHWM")


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew; where the system does not allow it, it stays."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def largest_peak(pid: int, name: str) -> int:
    """Return the largest peak so far of those descendants of a process whose name holds a word, in bytes (Linux).

    It is each process's own record of its peak resident memory, so nothing is missed between looks.
    """
    named = [each for each in _descendants(pid) if name in _read(f"/proc/{each}/cmdline")]
    return max((_status_bytes(each, "VmHWM") for each in named), default=0)


def _status_bytes(pid: int | str, name: str) -> int:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _read(folder / "stat")):
            parent = int(stat.rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _pss(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str | Path) -> str:
    """Return a file's text, or nothing where the process has ended meanwhile."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


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
            code = process.wait(_LOOK_EVERY_S)
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
