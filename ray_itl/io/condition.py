"""A condition that decides which rows of a pool are candidates."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc


@dataclass(frozen=True)
class Condition:
    """A condition on the columns of a row. A row meets it if it is true there, so not where it is null."""

    text: str
    expression: pc.Expression
    columns: tuple[str, ...]
    """The columns that it reads, each once."""
