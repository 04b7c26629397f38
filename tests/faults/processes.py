"""Processes of a job and of Ray below it: looked up in /proc, ended by their numbers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def command_of(pid: int) -> str:
    """Return a process's command line; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def descendants(root: int) -> list[int]:
    """Return the processes that a process started, and those that they started, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, open_ = [], [root]
    while open_:
        below = children.get(open_.pop(0), [])
        found += below
        open_ += below
    return found


def is_shard(pid: int) -> bool:
    """Whether a process is a shard's, by the title that Ray gives it."""
    return command_of(pid).startswith("ray::ShardActor")


def is_raylet(pid: int) -> bool:
    """Whether a process is the raylet of a node."""
    return command_of(pid).split(" ")[0].endswith("/raylet/raylet")


def kill(pids: Sequence[int]) -> None:
    """SIGKILL processes; those that have ended do not matter."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def with_variable(name: str, value: str) -> list[int]:
    """Return the living processes whose environment has a variable of this value: all that a job started inherit it."""
    wanted, found = f"{name}={value}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def await_end(name: str, value: str, seconds: float) -> None:
    """Wait until all processes with a variable have ended; then kill those that have not."""
    deadline = time.monotonic() + seconds
    while (left := with_variable(name, value)) and time.monotonic() < deadline:
        time.sleep(0.1)
    kill(left)
