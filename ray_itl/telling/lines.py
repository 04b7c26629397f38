"""Plain lines on standard error, and the ending on standard output: for logs and for people without a terminal."""

from __future__ import annotations

import sys

from ray_itl.telling.event import Ending, Event
from ray_itl.telling.pace import Pace
from ray_itl.telling.streams import write_line


class Lines:
    """One line for what happens, and now and then one for progress."""

    def __init__(self) -> None:
        self._pace = Pace(every=1.0, growth=0.1)

    def tell(self, event: Event) -> None:
        """Write the event's words, if it has any."""
        if event.text and (not event.passing or self._pace.due()):
            write_line(sys.stderr, event.text)

    def settle(self) -> None:
        """Nothing is ever half-drawn."""

    def conclude(self, ending: Ending) -> None:
        """Write the ending, after an empty line that sets it off."""
        write_line(sys.stdout, f"\n{ending.text}")


class FinalLine:
    """Only one line, at the end, on standard output: for schedulers."""

    def tell(self, event: Event) -> None:
        """Say nothing."""

    def settle(self) -> None:
        """Nothing is ever half-drawn."""

    def conclude(self, ending: Ending) -> None:
        """Write the ending in one line."""
        write_line(sys.stdout, ending.line)
