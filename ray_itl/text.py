"""Numbers, sizes and untrusted values in words."""

from __future__ import annotations

import re
from numbers import Integral, Real

from ray_itl.errors import ConfigError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
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


def error_summary(error: BaseException) -> str:
    """Return an error's type, the first line of its message and, as Ray appends a traceback to some, the last."""
    lines = [line.strip() for line in without_colours(str(error)).strip().splitlines()]
    return ": ".join(dict.fromkeys([type(error).__name__, *lines[:1], *lines[-1:]]))


def without_colours(text: str) -> str:
    """Return a text without the codes by which terminals colour it: logs and files have no use for them."""
    return _COLOUR.sub("", text)


def number(value: float) -> str:
    """Return `value` to four significant digits, with thousands separated: 1234567 is 1,234,567."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as a percentage that never rounds to all or nothing."""
    if 0.9999 < share < 1:
        return "over 99.99%"
    if 0 < share < 0.0001:
        return "under 0.01%"
    return f"{100 * share:.3g}%" if abs(share) < 0.995 else f"{100 * share:.4g}%"


def duration(seconds: float) -> str:
    """Return seconds in the units a person would use: 0.42 s, 3 min 12 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, noun: str) -> str:
    """Return `count` with `noun`: 1 row, 2,000 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def clip(text: str, most: int) -> str:
    """Return `text`, or its beginning and an ellipsis: at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(value: object) -> str:
    """Return any value as text: nothing for None, undecodable bytes replaced."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.6g}"
    return str(value)


def amount(gain: float, unit: str) -> str:
    """Return a gain with its unit."""
    return f"{number(gain)} nats" if unit == "nats" else f"{number(gain)} of variance"
