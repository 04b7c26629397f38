"""Which process this is, so that another on the same machine can tell for certain that it has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class ProcessState(NamedTuple):
    """What the system says of a process."""

    has_ended: bool
    """A zombie has ended, and waits for its parent to notice."""
    started: str
    """In ticks since the boot: process ids are given anew."""


def own_process() -> dict[str, Any]:
    """Return what names this process among all that ever ran: host, pid, boot and start of it, as far as is known."""
    pid = os.getpid()
    found = state_of(pid)
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _boot(),
        "pid_namespace": _namespace(),
        "started": None if found is None else found.started,
    }


def has_ended(process: Mapping[str, Any]) -> bool:
    """Whether a process, as `own_process` named it there, is known to be no more; False if that cannot be told.

    Only the machine that it ran on can tell, between two boots and within one container. No clock is asked.
    """
    own = own_process()
    where = ("host", "boot", "pid_namespace")
    if any(own[key] is None or process.get(key) != own[key] for key in where) or process.get("started") is None:
        return False
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    found = state_of(pid)
    return found is not None and (found.has_ended or found.started != process["started"])


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() or None
    except OSError:  # not Linux
        return None


def _namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def state_of(pid: int) -> ProcessState | None:
    """Return what the system says of a process; None if that is not to be had."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return ProcessState(fields[0] in ("Z", "X"), fields[19])
