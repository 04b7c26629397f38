"""Which files are text with rows in it, by their names."""

from __future__ import annotations

from typing import Literal, NamedTuple

Syntax = Literal["json", "csv", "tsv"]
_SYNTAXES: dict[str, Syntax] = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


class TextFormat(NamedTuple):
    """How a file holds its rows."""

    syntax: Syntax
    compression: str | None
    """As pyarrow names it."""


_IN_FOLDERS = (".jsonl", ".ndjson", ".csv", ".tsv")
"""Those looked for in folders: a .json may be anything, and has to be named."""


def is_found_in_folders(path: str) -> bool:
    """Whether a folder that is a pool may hold rows in a file of this name."""
    name = path.lower()
    stem = next((name.removesuffix(suffix) for suffix in _COMPRESSIONS if name.endswith(suffix)), name)
    return stem.endswith(_IN_FOLDERS)


def text_format(path: str) -> TextFormat | None:
    """Return what a file's name says; None where it is no text file with rows."""
    name = path.lower()
    compression = next((suffix for suffix in _COMPRESSIONS if name.endswith(suffix)), None)
    stem = name.removesuffix(compression) if compression else name
    suffix = next((suffix for suffix in _SYNTAXES if stem.endswith(suffix)), None)
    if suffix is None:
        return None
    return TextFormat(_SYNTAXES[suffix], _COMPRESSIONS[compression] if compression else None)
