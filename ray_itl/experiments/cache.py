"""The folder in which fetched packages and prepared data live, and the columns and files that all data sets share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.errors import InputError
from ray_itl.io.atomic import write_atomic
from ray_itl.io.cache import CACHE_VARIABLE, default_cache_root

Notify = Callable[[str], object]
"""Takes one line of progress."""


def silent(line: str) -> None:
    """Report nothing."""
    del line


def vectors(values: np.ndarray) -> pa.FixedSizeListArray:
    """Return an n x D array as n fixed-size lists of D numbers of its own type."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def as_matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return n fixed-size lists of D numbers as an n x D array of their own type."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    assert isinstance(array, pa.FixedSizeListArray)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)


def image_table(first_id: int, images: np.ndarray, labels: np.ndarray) -> pa.Table:
    """Return columns id (int64, counted from first_id), image (n x P bytes) and label (int64)."""
    ids = np.arange(first_id, first_id + len(images), dtype=np.int64)
    return pa.table({"id": ids, "image": vectors(images), "label": labels.astype(np.int64)})


def write_rows(path: Path, table: pa.Table) -> None:
    """Write a table as one Parquet file, atomically.

    Raises:
        RunDirectoryError: that failed.
    """
    # Dictionaries do not make vectors smaller, and reading them takes four times as long.
    write_atomic(path, lambda file: pq.write_table(table, file, use_dictionary=False))


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
    """Make a folder and its parents.

    Raises:
        InputError: that failed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the cache folder {folder}: {error}; set {CACHE_VARIABLE} or the option cache to one that can "
            "be written"
        ) from error
    return folder
