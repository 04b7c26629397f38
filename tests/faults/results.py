"""The table of results: a line of JSON for each case, so that a harness that was interrupted goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_COLUMNS = ("resumed", "survived", "refused", "missed", "different")


class Results:
    """Lines in a file; a line that was cut short is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """Return what is there."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def add(self, result: Mapping[str, Any]) -> None:
        """Append a line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(result) + "\n")


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """Return a row for each kind: runs, how they ended, and the tries they took."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_kind.setdefault(result["kind"], []).append(result)
    by_kind["all"] = [result for group in by_kind.values() for result in group]
    lines = [f"{'kind':24}{'runs':>6}" + "".join(f"{name:>11}" for name in _COLUMNS) + f"{'tries':>8}{'s':>8}"]
    for kind, group in by_kind.items():
        counts = Counter(result["outcome"] for result in group)
        tries, seconds = sum(len(result["tries"]) for result in group), sum(result["seconds"] for result in group)
        row = "".join(f"{counts[name]:>11}" for name in _COLUMNS)
        lines.append(f"{kind:24}{len(group):>6}{row}{tries:>8}{seconds:>8.0f}")
    return "\n".join(lines)
