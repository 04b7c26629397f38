"""What an option may be: ready-made checks, each with the words that say what would do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from ray_itl.errors import ConfigError
from ray_itl.text import parse_size


@dataclass(frozen=True)
class Check:
    """A condition on an option's value. Options that may be null are checked only where they are not."""

    allowed: str
    """What would do: the end of the message about a value that does not."""
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    """The values that there are, where they are few; --help shows them."""

    def said(self, allowed: str) -> Check:
        """Return the same check with other words for what would do."""
        return replace(self, allowed=allowed)


def require(condition: bool, option: str, value: object, allowed: str) -> None:
    """Raise ConfigError unless an option's value meets a condition; `allowed` says what would."""
    if not condition:
        raise ConfigError(f"{option}={value!r} cannot be used: {allowed}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    return is_number(value) and value > 0


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def are_distinct_names(value: object, *taken: str) -> bool:
    """Whether a value is a list of texts, each once and none of those that are taken."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        return False
    return len({*value, *taken}) == len(value) + len(taken)


def _is_size(value: Any) -> bool:
    try:
        return parse_size("", value) is not None
    except ConfigError:
        return False


positive = Check("give a positive number", is_positive)
column_name = Check("name a column", lambda value: isinstance(value, str) and value != "")
true_or_false = Check("give true or false", lambda value: isinstance(value, bool))
text = Check("give a text, or leave it out", lambda value: isinstance(value, str) and value.strip() != "")
size = Check("give a size such as 2GiB or 500MB", _is_size)
any_seed = Check("give a whole number from 0 to 2^63 - 1", lambda value: is_whole(value, 0) and value < 2**63)
auto_or_whole = Check("give auto or a whole number >= 0", lambda value: value == "auto" or is_whole(value, 0))


def one_of(*choices: str) -> Check:
    """Return the check for one of some words."""
    return Check(f"use one of {', '.join(choices)}", lambda value: value in choices, choices)


def either(*choices: str) -> Check:
    """Return the check for one of a few words, which differs from `one_of` in its message."""
    return one_of(*choices).said(f"use {' or '.join(choices)}")


def whole(least: int) -> Check:
    """Return the check for a whole number of at least `least`."""
    return Check(f"give a whole number of at least {least}", lambda value: is_whole(value, least))


def number_at_least(least: float) -> Check:
    """Return the check for a finite number of at least `least`."""
    return Check(f"give a number >= {least:g}", lambda value: is_number(value) and value >= least)


def positive_up_to(most: float) -> Check:
    """Return the check for a number above 0 and of at most `most`."""
    return Check(f"give a number above 0, at most {most:g}", lambda value: is_positive(value) and value <= most)


def distinct_names(*taken: str) -> Check:
    """Return the check for a list of column names, each once and none of those that are taken."""
    return Check("give a list of column names, each once", lambda value: are_distinct_names(value, *taken))
