"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from ray_itl.errors import ConfigError

_UNITS = {unit: 1024**k for k, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))} | {
    unit: 1000**k for k, unit in enumerate(("KB", "MB", "GB", "TB"), start=1)
}


def parse_size(option: str, value: str | int | None) -> int | None:
    """Return the bytes that a size like 2GiB, 500MB or 1048576 means; None for None.

    Raises:
        ConfigError: it is no size, or none above 0 (names the option).
    """
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    factor = units.get((found[2] or "B").lower()) if found else None
    size = int(float(found[1]) * factor) if found and factor else 0
    if size < 1:
        raise ConfigError(f"{option}={value!r} cannot be used: give a size such as 2GiB or 500MB")
    return size


def format_size(num_bytes: float) -> str:
    """Return a size with a binary unit, to about four digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.1f} TiB"
