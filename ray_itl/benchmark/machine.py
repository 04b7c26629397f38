"""The machine a benchmark ran on, and the memory of a process with all its children."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import torch

_PERIOD_S = 0.5


def describe() -> str:
    """Return one line: processor, cores, memory, versions."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line),
        platform.processor() or platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB; {versions}"


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
