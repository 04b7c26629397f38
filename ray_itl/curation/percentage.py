"""What may be said as a number or as a percentage of rows, which becomes a number once these are known."""

from __future__ import annotations

import re
from fractions import Fraction

from ray_itl.options.checks import Check, is_number, is_whole

_PERCENTAGE = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)
_WHOLE = re.compile(r"\s*[-+]?\d+\s*", re.ASCII)


def share_of(text: object) -> Fraction | None:
    """Return the share that a percentage from 0% to 100% is; None of anything else."""
    found = _PERCENTAGE.fullmatch(text) if isinstance(text, str) else None
    share = Fraction(found[1]) / 100 if found else Fraction(2)
    return share if share <= 1 else None


def percentage(n: object) -> Fraction | None:
    """Return the share that a percentage like 5% or 0.5% is; None of whatever is none above 0% and up to 100%."""
    return share_of(n) or None


def number_among(n: int | str, num_rows: int) -> int:
    """Return how many rows are asked for, where so many may be picked: of a percentage rounded down, at least 1."""
    share = percentage(n)
    return int(n) if share is None else max(1, int(share * num_rows))


def read_number(n: object) -> object:
    """Return a whole number that was given as a text; anything else as it is."""
    return int(n) if isinstance(n, str) and _WHOLE.fullmatch(n) else n


number_or_percentage = Check(
    "give a whole number of at least 1, or a percentage up to 100% like 5%",
    lambda value: is_whole(value, 1) or percentage(value) is not None,
)

cosine_or_percentage = Check(
    "give a cosine from -1 to 1, or a percentage like 95%",
    lambda value: value is None or (is_number(value) and -1 <= value <= 1) or share_of(value) is not None,
)
