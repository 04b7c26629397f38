"""What a place to log to can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

Point = tuple[int, Mapping[str, float]]
"""A step, and figures by name."""
State = Literal["finished", "failed", "waiting"]


class RunLog(Protocol):
    """One run in a tracking tool. Any method may raise anything."""

    name: str
    """Of the tool, as people know it."""

    @property
    def place(self) -> Mapping[str, str]:
        """Where it logs to: part of what `begin` returns."""
        ...

    def begin(self, options: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, str]:
        """Open the run, or join the one begun before; returns what is needed to join it again."""
        ...

    def log(self, points: Sequence[Point]) -> None:
        """Log figures."""
        ...

    def attach(self, path: Path) -> None:
        """Keep a file with the run, where the tool can."""
        ...

    def end(self, state: State) -> None:
        """Say how the run ended, for now or for good."""
        ...
