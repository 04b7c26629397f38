"""How much memory this process may still take: what the machine has left, within the limit of its container."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_USAGE_AND_LIMIT = (
    ("memory.current", "memory.max", "memory.stat", "inactive_file"),
    ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def available_memory() -> int:
    """Return bytes; where the system does not tell what is left, all of the machine's memory."""
    return max(0, min([_machine(), *_container()]))


def _machine() -> int:
    for line in _lines(_MEMINFO):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container() -> list[int]:
    """Return what a control group leaves, if it limits memory; cached files can be given up and do not count."""
    left = []
    for usage, limit, statistics, cached in _USAGE_AND_LIMIT:
        numbers = [int(line) for name in (usage, limit) for line in _lines(_CGROUP / name) if line.isdigit()]
        if len(numbers) == 2:
            stat = dict(line.split() for line in _lines(_CGROUP / statistics) if len(line.split()) == 2)
            left.append(numbers[1] - numbers[0] + int(stat.get(cached, 0)))
    return left


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
