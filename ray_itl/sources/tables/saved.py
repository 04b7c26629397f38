"""Which Arrow files a dataset has that Hugging Face's `save_to_disk` wrote, by what it says of itself."""

from __future__ import annotations

import json
import posixpath
from typing import Any

import pyarrow.fs as pafs

from ray_itl.sources.tables.version import TableFiles, reading, refusal

STATE = "state.json"
_SPLITS = "dataset_dict.json"


def read_saved(folder: str, filesystem: pafs.FileSystem, version: int | None) -> TableFiles:
    """Return the files of a saved dataset: others beside them are left from saving it before.

    Raises:
        InputError: it cannot be read, or another version is asked for than 0.
    """
    with reading("saved", folder, version):
        if version:
            raise refusal("saved", folder, "has no versions", "leave out pool.version")
        files = [each["filename"] for each in _read(filesystem, posixpath.join(folder, STATE))["_data_files"]]
        return TableFiles(0, {posixpath.join(folder, file): {} for file in files})


def refuse_splits(folder: str, filesystem: pafs.FileSystem) -> None:
    """Raise InputError, which names the splits that one may choose from."""
    with reading("splits", folder, None):
        splits = _read(filesystem, posixpath.join(folder, _SPLITS))["splits"]
        raise refusal(
            "splits", folder, f"has several splits ({', '.join(splits)})", f"name one, as {folder}/{splits[0]}"
        )


def _read(filesystem: pafs.FileSystem, path: str) -> Any:
    with filesystem.open_input_stream(path) as file:
        return json.loads(file.read())
