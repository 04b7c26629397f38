"""Which folders are tables: a log beside their files says which rows count, and the files alone mislead."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

TableKind = Literal["delta", "iceberg", "lance", "hudi", "paimon", "saved", "splits"]

NAMES: dict[TableKind, str] = {
    "delta": "Delta table",
    "iceberg": "Iceberg table",
    "lance": "Lance dataset",
    "hudi": "Hudi table",
    "paimon": "Paimon table",
    "saved": "saved Hugging Face dataset",
    "splits": "saved Hugging Face dataset",
}
"""What people call them, for messages."""

_SAVED = ("state.json", "dataset_info.json")
_SPLITS = "dataset_dict.json"
MARKERS = ("_delta_log", ".hoodie", "metadata", "_versions", "snapshot", *_SAVED)
"""Names in a folder by which `kind_of` knows a table of which files below it are a part; a split is a table itself."""
METADATA_SUFFIXES = (".metadata.json", ".metadata.json.gz")
"""How the names of an Iceberg table's metadata files end."""


def kind_of(names: Collection[str], inside: Callable[[str], Collection[str]]) -> TableKind | None:
    """Return the kind of table that a folder is, or None.

    Several tools may keep a log over the same files. The one that can least be read is returned, as it may know of
    deleted rows that the others do not.

    Args:
        names: What is in the folder.
        inside: Lists one of its folders.
    """
    if ".hoodie" in names:
        return "hudi"
    if "_delta_log" in names:
        return "delta"
    if "metadata" in names and any(name.endswith(METADATA_SUFFIXES) for name in inside("metadata")):
        return "iceberg"
    if "_versions" in names and any(name.endswith(".manifest") for name in inside("_versions")):
        return "lance"
    if "snapshot" in names and any(name.startswith("snapshot-") for name in inside("snapshot")):
        return "paimon"
    if _SPLITS in names:
        return "splits"
    return "saved" if all(name in names for name in _SAVED) else None
