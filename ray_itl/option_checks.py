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
