"""Something a run tells: once in words for people, once in figures for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """One thing told."""

    name: str
    """message, step, rows, picks or round."""
    text: str = ""
    """For people; empty where there is nothing to say to them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For machines: numbers, texts, and lists and mappings of them."""
    passing: bool = False
    """Whether the next event makes this one worthless, as with progress: tellers may leave it out."""


@dataclass(frozen=True)
class Ending:
    """What a job says once it is done."""

    headline: str
    """What happened, in one line."""
    details: str = ""
    """Further lines for people: figures, where the files are, what to do next."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where the files are; `results` is the place of them all."""

    @property
    def line(self) -> str:
        """All that must be known, in one line."""
        where = self.paths.get("results")
        return self.headline if where is None else f"{self.headline}; results: {where}"

    @property
    def text(self) -> str:
        """All lines for people."""
        return f"{self.headline}\n{self.details}" if self.details else self.headline


class Teller(Protocol):
    """A form of telling."""

    def tell(self, event: Event) -> None:
        """Tell an event, or leave it out where it is passing and one was told just now."""
        ...

    def settle(self) -> None:
        """A step has ended, by success or failure: leave nothing half-drawn."""
        ...

    def conclude(self, ending: Ending) -> None:
        """Tell what the job did, on standard output."""
        ...
