"""What is said of the options of `ray-itl embed`, in the names that a selection has for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ray_itl.errors import ConfigError, InputError

_THEIRS = re.compile(
    r"\b(?:model|embedding)\."
    r"(name|options|checkpoints?|kind|unit_norm|projection_dim|precision|batch_size|batch_tokens)\b"
)


def in_names_of_selection(text: str) -> str:
    """Return what is said to users of `ray-itl embed` in the options of a selection."""
    return _THEIRS.sub(lambda found: f"encoder.{found[1]}".replace("encoder.name", "encoder"), text)


@contextmanager
def renaming_options() -> Iterator[None]:
    """Raise ConfigError and InputError of a block with their options so named."""
    try:
        yield
    except (ConfigError, InputError) as error:
        if (text := in_names_of_selection(str(error))) == str(error):
            raise
        raise type(error)(text) from error
