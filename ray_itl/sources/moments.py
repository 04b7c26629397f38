"""Moments as people write them: dates and times in text, exact to the nanosecond and without bounds."""

from __future__ import annotations

import datetime
import re
from typing import Any, NamedTuple

NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "D": 86_400 * 10**9}
"""Nanoseconds of a unit of Arrow's types; D is a day."""
_CLOCK = r"(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
_MOMENT = re.compile(rf"(\d{{4}})-(\d\d)-(\d\d)(?:[T ]+{_CLOCK})?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?", re.IGNORECASE)
_TIME_OF_DAY = re.compile(_CLOCK)


class Moment(NamedTuple):
    """A moment, or a time of day."""

    nanoseconds: int
    """Since the beginning of 1970, where it is zoned in UTC; since midnight for a time of day."""
    zoned: bool
    """Whether the text said how far from UTC it is."""


def read_moment(text: Any) -> Moment:
    """Return the moment that a text like 2026-01-31 or 2026-01-31 12:00:00.5+01:00 names.

    Raises:
        ValueError: it is no such text (says so in words).
    """
    found = _MOMENT.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError("it is no date or time")
    year, month, day, *clock, zone = found.groups()
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError:
        raise ValueError("there is no such day") from None
    since = days * NANOSECONDS["D"] + _since_midnight(clock)
    return Moment(since - _offset(zone), zone is not None)


def read_time_of_day(text: Any) -> Moment:
    """Return the time of day that a text like 12:30 or 12:30:00.5 names; ValueError where it is none."""
    found = _TIME_OF_DAY.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError("it is no time of day")
    return Moment(_since_midnight(list(found.groups())), zoned=False)


def _since_midnight(clock: list[str | None]) -> int:
    hour, minute, second = (int(part or 0) for part in clock[:3])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("there is no such time")
    return ((hour * 60 + minute) * 60 + second) * NANOSECONDS["s"] + int((clock[3] or "0").ljust(9, "0"))


def _offset(zone: str | None) -> int:
    """Return by how many nanoseconds a zone is ahead of UTC."""
    if zone is None or zone.upper() in ("Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    ahead = (int(digits[:2]) * 60 + int(digits[2:])) * 60 * NANOSECONDS["s"]
    return -ahead if zone[0] == "-" else ahead
