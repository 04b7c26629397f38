"""Finding rows by id, and reading lists of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.sources.base import PoolSource
from ray_itl.sources.ids import given_id, id_arrow_type, id_word, ids_to_arrow
from ray_itl.sources.open import open_raw_rows


def positions_of(source: PoolSource, ids: pa.Array) -> np.ndarray:
    """Return the ascending positions of rows with some of these ids. Reads the id column."""
    ids = ids.cast(id_arrow_type(source.id_kind))
    found, position = [np.empty(0, dtype=np.int64)], 0
    rows: Any = getattr(source, "row_batches", None)
    batches = source.batches(0, source.num_rows) if rows is None else rows(0, source.num_rows, [])
    for batch_ids, _ in batches:
        hits = pc.call_function("is_in", [ids_to_arrow(batch_ids)], pc.SetLookupOptions(ids))
        found.append(position + np.flatnonzero(hits.to_numpy(zero_copy_only=False)))
        position += len(batch_ids)
    return np.concatenate(found).astype(np.int64)


def ids_given(ids: Any, source: PoolSource, option: str) -> pa.Array:
    """Return ids in memory (any sequence, array, tensor, series or Arrow column) as an Arrow array of the pool's kind.

    Raises:
        InputError: they are of another kind than the pool's, or null (names the option).
    """
    values = _as_list(ids)
    found = [given_id(value, source.id_kind) for value in values]
    if None in found:
        wrong, word = values[found.index(None)], id_word(source.id_kind)
        raise InputError(f"{option} holds {wrong!r}, but the pool has {word} ids: give ids of the same kind")
    return pa.array(found, id_arrow_type(source.id_kind))


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
        rows = open_raw_rows(path, id_column=id_column, id_option="pool.id_column")
    except InputError as error:
        raise type(error)(f"{option}={path}: {error}") from error
    found, wanted = id_word(rows.id_kind), id_word(source.id_kind)
    if found != wanted:
        raise InputError(f"{option}={path} has {found} ids, the pool {wanted} ones: write the same kind")
    ids = pa.chunked_array([ids_to_arrow(ids) for ids, _ in rows.row_batches(0, rows.num_rows, [])]).combine_chunks()
    try:
        return ids.cast(id_arrow_type(source.id_kind))
    except pa.ArrowException as error:
        raise InputError(f"{option}={path} has an id that the pool cannot have ({error}): leave it out") from error
