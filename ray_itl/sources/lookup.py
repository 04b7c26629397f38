"""Finding rows by id, and reading lists of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.ids import given_id, id_arrow_type, id_dtype, id_word, ids_to_arrow
from ray_itl.sources.in_memory import TableRows
from ray_itl.sources.open import DEFAULT_ID, open_raw_rows
from ray_itl.sources.parquet import ParquetRows

_MAX_COMPARED = 20_000
"""Ids of the pool among which one like a missing one is looked for."""


def positions_of(source: PoolSource, ids: pa.Array) -> np.ndarray:
    """Return the ascending positions of rows with some of these ids. Reads the id column; bad rows count, too."""
    ids = ids.cast(id_arrow_type(source.id_kind))
    found, position = [np.empty(0, dtype=np.int64)], 0
    bad = BadRows()
    for batch in _ids_of(source, bad):
        hits = pc.call_function("is_in", [batch], pc.SetLookupOptions(ids))
        found.append(position + np.flatnonzero(hits.to_numpy(zero_copy_only=False)))
        position += len(batch)
    nameless = np.array([row.position for row in bad if row.id is None], dtype=np.int64)
    return np.setdiff1d(np.concatenate(found), nameless, assume_unique=True).astype(np.int64)


def missing_ids(source: PoolSource, ids: pa.Array) -> str:
    """Say how many of some distinct ids, and which, the pool does not have, and what is near. Reads the id column."""
    missing = ids
    for batch in _ids_of(source):
        known = pc.call_function("is_in", [missing], pc.SetLookupOptions(batch))
        missing = missing.filter(pc.call_function("invert", [known]))
    if not len(missing):
        return "the pool has them all"
    first = missing[0].as_py()
    return f"the pool lacks {len(missing):,} of its {len(ids):,} ids, the first {first!r} ({_near(source, first)})"


def _near(source: PoolSource, missing: int | str) -> str:
    """Say which ids the pool has: for a text the one that is most like a missing one, for a number their range."""
    seen: list[Any] = []
    least, most = None, None
    for batch in _ids_of(source):
        ends = pc.call_function("min_max", [batch])
        low, high = ends["min"].as_py(), ends["max"].as_py()
        least, most = low if least is None else min(least, low), high if most is None else max(most, high)
        if isinstance(missing, str):
            folded = pc.call_function("utf8_lower", [pc.call_function("utf8_trim_whitespace", [batch])])
            same = pc.call_function("equal", [folded, missing.strip().lower()])
            seen += [*batch.filter(same).to_pylist(), *batch.slice(0, max(0, _MAX_COMPARED - len(seen))).to_pylist()]
    near = get_close_matches(str(missing), dict.fromkeys(seen), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"its ids go from {least!r} to {most!r}"


def _ids_of(source: PoolSource, bad: BadRows | None = None) -> Iterator[pa.Array]:
    yield from map(ids_to_arrow, id_batches(source, BadRows() if bad is None else bad))


def id_batches(source: PoolSource, bad: BadRows) -> Iterator[np.ndarray]:
    """Yield the ids of all rows, batch by batch, none of them empty; bad ones are noted, and 0 or ""."""
    rows: Any = getattr(source, "row_batches", None)
    batches = source.batches(0, source.num_rows, bad) if rows is None else rows(0, source.num_rows, [], bad)
    yield from (ids for ids, _ in batches if len(ids))


def ids_given(ids: Any, source: PoolSource, option: str) -> pa.Array:
    """Return ids in memory (any sequence, array, tensor, series or Arrow column) as an Arrow array of the pool's kind.

    Raises:
        InputError: they are of another kind than the pool's, or null (names the option).
    """
    values = _as_list(ids, option)
    found = [given_id(_as_whole(value), source.id_kind) for value in values]
    if None in found:
        wrong, word = values[found.index(None)], id_word(source.id_kind)
        raise InputError(f"{option} holds {wrong!r}, but the pool has {word} ids: give ids of the same kind")
    try:
        return pa.array(found, id_arrow_type(source.id_kind))
    except UnicodeEncodeError as error:
        raise InputError(f"{option} holds text that no id can be ({error}): give ids of the pool") from error


def _as_list(ids: Any, option: str) -> list[Any]:
    """Return values as Python has them, whatever holds them."""
    for method in ("to_pylist", "tolist", "to_list"):  # of Arrow; of NumPy, torch and pandas; of Polars
        if hasattr(ids, method):
            values = getattr(ids, method)()
            return values if isinstance(values, list) else [values]
    if not isinstance(ids, Iterable):
        raise InputError(f"{option} is of type {type(ids).__name__}: give a list of ids, or the path of a file of them")
    return [_as_python(value) for value in ids]


def _as_python(value: Any) -> Any:
    if isinstance(value, pa.Scalar):
        return value.as_py()
    return value.item() if getattr(value, "shape", None) == () else value


def _as_whole(value: Any) -> Any:
    """Return a number without a fraction as a whole one: 7.0, as pandas has it in a column with gaps, is 7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def ids_at(source: PoolSource, positions: np.ndarray) -> np.ndarray:
    """Return the ids of rows at positions (int64, repeats allowed), in that order."""
    distinct, places = np.unique(positions, return_inverse=True)
    if isinstance(source, ParquetRows | TableRows):
        batches = source.row_batches_at(distinct, [])
    else:
        batches = source.batches_at(distinct)
    found = [ids for ids, _ in batches]
    return np.concatenate(found)[places] if found else np.empty(0, dtype=id_dtype(source.id_kind))


def read_ids(path: str, id_column: str | None, source: PoolSource, option: str) -> pa.Array:
    """Return the ids in a Parquet file or folder, of the pool's kind.

    Raises:
        InputError: it cannot be read, has no such column, or ids of another kind than the pool's (names the option).
    """
    try:
        rows = open_raw_rows(path, id_column=id_column or DEFAULT_ID, id_option="pool.id_column")
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
