"""How a pool is cut into parts, and which of them are still good after some of its files have changed.

A part belongs to rows of one file, counted in that file, so that it depends on nothing but what the file holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from ray_itl.sources.manifest import Manifest

BY_FILE = "by file"
"""What manifest.json calls this layout. Runs that say nothing cut the pool as a whole: parts go over ends of files."""


class Part(NamedTuple):
    """Rows `start <= row < stop` of one file, or of the whole pool where `file` is None."""

    number: int
    file: int | None
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Number of rows, bad ones included."""
        return self.stop - self.start


def parts_of_rows(num_rows: int, part_rows: int) -> Iterator[Part]:
    """Yield the parts of a pool that is cut as a whole."""
    for number, start in enumerate(range(0, num_rows, part_rows)):
        yield Part(number, None, start, min(start + part_rows, num_rows))


def parts_of_files(manifest: Manifest, part_rows: int) -> Iterator[Part]:
    """Yield the parts of the files of a manifest, in order."""
    number = 0
    for index, file in enumerate(manifest.files):
        for start in range(0, file.num_rows, part_rows):
            yield Part(number, index, start, min(start + part_rows, file.num_rows))
            number += 1


def contents(manifest: Manifest, part_rows: int) -> dict[str, int]:
    """Return the number of each part of the files by a name of what is in it, wherever the file stands."""
    columns = f"{manifest.id_kind}:{manifest.id_column}"
    copies: Counter[str] = Counter()
    copy_of_file = []
    for file in manifest.files:
        copy_of_file.append(copies[file.fingerprint])
        copies[file.fingerprint] += 1
    named = {}
    for part in parts_of_files(manifest, part_rows):
        index = part.file or 0
        words = (columns, manifest.files[index].fingerprint, copy_of_file[index], part.start, part.stop)
        named[sha256(repr(words).encode()).hexdigest()] = part.number
    return named
