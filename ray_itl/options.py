"""How settings check themselves."""

from __future__ import annotations

import math
from typing import TypeGuard

from ray_itl.errors import ConfigError


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
