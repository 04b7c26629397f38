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


def text_format(path: str) -> TextFormat | None:
    """Return what a file's name says; None where it is no text file with rows."""
    stem, compression = _split(path)
    suffix = next((suffix for suffix in _SYNTAXES if stem.endswith(suffix)), None)
    return None if suffix is None else TextFormat(_SYNTAXES[suffix], compression)


def is_found_in_folders(path: str) -> bool:
    """Whether a folder that is a pool may hold rows in a file of this name: a .json may be anything, and is named."""
    return text_format(path) is not None and not _split(path)[0].endswith(".json")


def _split(path: str) -> tuple[str, str | None]:
    """Return a name without the suffix of a compression, and which that is."""
    name = path.lower()
    suffix = next((suffix for suffix in _COMPRESSIONS if name.endswith(suffix)), "")
    return name.removesuffix(suffix), _COMPRESSIONS.get(suffix)
