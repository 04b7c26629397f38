"""JSON objects on standard output, one a line: for what collects logs."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray_itl.telling.event import Ending, Event
from ray_itl.telling.pace import Pace
from ray_itl.telling.streams import write_line


class JsonLines:
    """Every event as an object with `event`, `time` (seconds since 1970), its facts and, for people, `message`.

    Progress comes at most once a second. The last object has `event` "finished" and the `paths` of the results.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pace = Pace(every=1.0)

    def tell(self, event: Event) -> None:
        """Write the event."""
        if not event.passing or self._pace.due():
            self._write(event.name, event.text, event.facts)

    def settle(self) -> None:
        """Nothing is ever half-drawn."""

    def conclude(self, ending: Ending) -> None:
        """Write the ending."""
        self._write("finished", ending.headline, {**ending.facts, "paths": dict(ending.paths)})

    def _write(self, name: str, text: str, facts: Mapping[str, Any]) -> None:
        message = {"message": text.strip()} if text.strip() else {}
        write_line(sys.stdout, json_line({"event": name, "time": round(self._clock(), 3), **facts, **message}))


def json_line(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON in one line of ASCII; what JSON has no number for becomes null, other values their text."""
    return json.dumps(_plain(facts), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):  # NumPy's own float64 among them
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)
