"""What data sets at Hugging Face may be called."""

from __future__ import annotations

import re

_REPOSITORY = re.compile(r"([\w.-]+/)?[\w.-]{1,96}")


def is_repository(name: str) -> bool:
    """Whether a text may be the name of a data set, with or without an owner."""
    return _REPOSITORY.fullmatch(name) is not None
