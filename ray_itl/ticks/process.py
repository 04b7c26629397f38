"""Which process this is, so that another on the same machine can tell for certain that it has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ENDED = ("Z", "X")  # a zombie has ended, and waits for its parent to notice


def own_process() -> dict[str, Any]:
    """Return what names this process among all that ever ran: host, pid, boot and start of it, as far as is known."""
    pid = os.getpid()
    started = _stat(pid)
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _boot(),
        "pid_namespace": _namespace(),
        "started": None if started is None else started[1],
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
    found = _stat(pid)
    return found is not None and (found[0] in _ENDED or found[1] != process["started"])


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


def _stat(pid: int) -> tuple[str, str] | None:
    """Return the state of a process and when it started, in ticks since the boot; None if that is not to be had."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return fields[0], fields[19]
