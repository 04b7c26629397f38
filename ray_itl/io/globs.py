"""Which paths a source means: all pool files of a folder, or what matches a glob."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ray_itl.io.image_files import is_image
from ray_itl.io.text_files import is_found_in_folders

_PARQUET_SUFFIXES = (".parquet", ".pq")
_GLOB = re.compile(r"[*?\[]")
_URI_GLOB = re.compile(r"[*\[]")  # in a URI a question mark begins the query


def split_glob(path: str, *, is_uri: bool = False) -> tuple[str, str]:
    """Cut a path before its first segment with a wildcard; the second part is "" if it has none."""
    hit = (_URI_GLOB if is_uri else _GLOB).search(path)
    if hit is None:
        return path, ""
    cut = path.rfind("/", 0, hit.start())
    return path[: max(cut, 0)] or "/", path[cut + 1 :]


@dataclass(frozen=True)
class Wanted:
    """What a source means of the files below a folder."""

    pattern: str
    """A glob, relative to the folder; "" for all pool files."""

    def takes(self, parts: Sequence[str]) -> bool:
        """Whether it means the file of these path segments."""
        if self.pattern:
            return _matches(parts, self.pattern.split("/"))
        if any(is_hidden(part) for part in parts):
            return False
        return is_parquet(parts[-1]) or is_found_in_folders(parts[-1]) or is_image(parts[-1])

    def enters(self, parts: Sequence[str]) -> bool:
        """Whether it may mean a file below the folder of these path segments."""
        if self.pattern:
            return _leads(parts, self.pattern.split("/"))
        return not any(is_hidden(part) for part in parts)


def is_parquet(name: str) -> bool:
    """Whether a file's name says that it is Parquet."""
    return name.lower().endswith(_PARQUET_SUFFIXES)


def is_hidden(part: str) -> bool:
    """Whether a name is passed over unless it is written out."""
    return part.startswith(("_", "."))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match path segments against glob segments, "**" standing for any number of visible segments."""
    if not parts:
        return all(segment == "**" for segment in pattern)
    if not pattern:
        return False
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not is_hidden(parts[0]) and _matches(parts[1:], pattern))
    return _fits(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _leads(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether segments can be the beginning of some that match, with one more at least."""
    if not parts or not pattern:
        return bool(pattern)
    if pattern[0] == "**":
        return _leads(parts, pattern[1:]) or (not is_hidden(parts[0]) and _leads(parts[1:], pattern))
    return _fits(parts[0], pattern[0]) and _leads(parts[1:], pattern[1:])


def _fits(part: str, segment: str) -> bool:
    return (not is_hidden(part) or segment.startswith(part[0])) and fnmatch.fnmatchcase(part, segment)
