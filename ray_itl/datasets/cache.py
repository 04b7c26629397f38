"""Where fetched packages and prepared data live."""

from __future__ import annotations

import os
from pathlib import Path

from ray_itl.errors import InputError
from ray_itl.io.shard_cache import CACHE_VARIABLE, default_cache_root


def cache_root(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder, made if missing: the option, else $RAY_ITL_CACHE, else ~/.cache/ray_itl.

    Below it: `packages/` (unpacked, checked files), `archives/` (archives copied there by hand), `data/` (Parquet).

    Raises:
        InputError: the folder cannot be made.
    """
    return make_folder(Path(option).expanduser().absolute() if option else default_cache_root())


def data_folder(cache: Path, name: str, version: int) -> Path:
    """Return the folder of a prepared data set, made if missing.

    `version` is that of the preparation: code that writes other rows takes another number, and so another folder.
    """
    return make_folder(cache / "data" / f"{name}-{version}")


def make_folder(folder: Path) -> Path:
    """Make a folder and its parents; InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the cache folder {folder}: {error}; set {CACHE_VARIABLE} or the option cache to one that can "
            "be written"
        ) from error
    return folder
