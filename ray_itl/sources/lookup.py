"""Finding rows by id, and reading lists of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.schema import ids_to_arrow


def positions_of(source: PoolSource, ids: pa.Array) -> np.ndarray:
    """Return the ascending positions of rows with some of these ids. Reads the id column; bad rows count, too."""
    found, position = [np.empty(0, dtype=np.int64)], 0
    rows: Any = getattr(source, "row_batches", None)
    bad = BadRows()
    batches = source.batches(0, source.num_rows, bad) if rows is None else rows(0, source.num_rows, [], bad)
    for batch_ids, _ in batches:
        hits = pc.call_function("is_in", [ids_to_arrow(batch_ids)], pc.SetLookupOptions(ids))
        found.append(position + np.flatnonzero(hits.to_numpy(zero_copy_only=False)))
        position += len(batch_ids)
    nameless = np.array([row.position for row in bad if row.id is None], dtype=np.int64)
    return np.setdiff1d(np.concatenate(found), nameless, assume_unique=True).astype(np.int64)


def ids_given(ids: Any, source: PoolSource, option: str) -> pa.Array:
    """Return ids in memory (any sequence, array, tensor, series or Arrow column) as an Arrow array of the pool's kind.

    Raises:
        InputError: they are of another kind than the pool's, or null (names the option).
    """
    kind = pa.int64() if source.id_kind == "int" else pa.string()
    values = _as_list(ids)
    wanted = int if source.id_kind == "int" else str
    wrong = next((value for value in values if not isinstance(value, wanted) or isinstance(value, bool)), None)
    if wrong is not None or None in values:
        raise InputError(f"{option} holds {wrong!r}, but the pool has {source.id_kind} ids: give ids of the same kind")
    return pa.array(values, kind)


def _as_list(ids: Any) -> list[Any]:
    """Return values as Python has them, whatever holds them."""
    for method in ("to_pylist", "tolist"):  # of Arrow; of NumPy, torch and pandas
        if hasattr(ids, method):
            return getattr(ids, method)()
    return [value.item() if getattr(value, "shape", None) == () else value for value in ids]


def read_ids(path: str, id_column: str, source: PoolSource, option: str) -> pa.Array:
    """Return the ids in a Parquet file or folder, of the pool's kind.

    Raises:
        InputError: it cannot be read, has no such column, or ids of another kind than the pool's (names the option).
    """
    try:
        rows = open_raw_rows(path, id_column=id_column)
    except InputError as error:
        raise InputError(f"{option}={path}: {error}") from error
    if rows.id_kind != source.id_kind:
        raise InputError(f"{option}={path} has {rows.id_kind} ids, the pool {source.id_kind} ones: write the same kind")
    parts = [ids_to_arrow(ids) for ids, _ in rows.row_batches(0, rows.num_rows, [])]
    return pa.concat_arrays([part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in parts])
