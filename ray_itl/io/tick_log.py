"""The log of a state directory: who may work on it, and which ticks were published, in one sequence of small files.

Every entry is a file of its own number. A number can be taken once, so two processes never both add the same entry:
a tick that works claims number k, and publishes by adding k + 1. Whoever takes over from a tick that died adds a claim
at k + 1; the dead one, should it wake up, then finds its number taken. Entries are never deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, cast

from ray_itl.errors import RunDirectoryError
from ray_itl.io.store import Store

FORMAT_VERSION = 1
FOLDER = "log"
_NAME = re.compile(r"(\d{8})\.json")
_THREADS = 16
Kind = Literal["claim", "tick"]


@dataclass(frozen=True)
class Entry:
    """One entry: a claim to work, or a published tick."""

    number: int
    kind: Kind
    content: Mapping[str, Any]


class TickLog:
    """The entries under `log/` of a store. All reads go to the files: other processes add entries meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ticks: dict[int, Entry | None] = {}

    @property
    def store(self) -> Store:
        """Where the log is."""
        return self._store

    def last(self) -> Entry | None:
        """Return the entry of the largest number, or None; RunDirectoryError for a damaged one."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    def ticks(self) -> list[Entry]:
        """Return the published ticks, first to last. What was read before is not read again: a tick never changes."""
        new = [number for number in self._numbers() if number not in self._ticks]
        with ThreadPoolExecutor(_THREADS) as threads:
            for entry in threads.map(self._read, new):
                self._ticks[entry.number] = entry if entry.kind == "tick" else None
        return [entry for _, entry in sorted(self._ticks.items()) if entry is not None]

    def add(self, number: int, kind: Kind, content: Mapping[str, Any]) -> bool:
        """Add an entry unless its number is taken; returns whether it was added (see `Store.create`)."""
        return self._store.create(_name(number), _text(kind, content))

    def renew(self, number: int, content: Mapping[str, Any]) -> None:
        """Rewrite a claim, which only its owner may."""
        self._store.write(_name(number), _text("claim", content))

    def has(self, number: int) -> bool:
        """Whether a number is taken."""
        return self._store.read(_name(number)) is not None

    def _numbers(self) -> Sequence[int]:
        return [int(found[1]) for name in self._store.names(FOLDER) if (found := _NAME.fullmatch(name))]

    def _read(self, number: int) -> Entry:
        where = f"{_name(number)} in {self._store.location}"
        try:
            value = json.loads(self._store.read(_name(number)) or b"")
            version, kind, content = value["format"], value["kind"], value["content"]
        except (ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(f"{where} is damaged ({error}): restore it from a backup") from error
        if version != FORMAT_VERSION or kind not in ("claim", "tick") or not isinstance(content, dict):
            raise RunDirectoryError(f"{where} is of another version of ray_itl: use the version that wrote it")
        return Entry(number, cast(Kind, kind), content)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _text(kind: Kind, content: Mapping[str, Any]) -> bytes:
    value = {"format": FORMAT_VERSION, "kind": kind, "content": dict(content)}
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"
