"""How often progress is told."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Says whether progress is due: `every` seconds after the last, or `growth` of the time gone, if that is longer.

    With a growth of 0.1 the lines of a run grow with the logarithm of its time: an hour has about 60, a day 90.
    """

    def __init__(self, every: float, growth: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._growth = growth
        self._clock = clock
        self._began = clock()
        self._due = self._began

    def due(self) -> bool:
        """Whether to tell now; if so, the next is due later."""
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + max(self._every, self._growth * (now - self._began))
        return True
