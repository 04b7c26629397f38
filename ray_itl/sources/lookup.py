"""Finding rows by id, and reading lists of ids."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.sources.base import PoolSource
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.schema import ids_to_arrow

_MAX_COMPARED = 20_000
"""Ids of the pool among which one like a missing one is looked for."""


def positions_of(source: PoolSource, ids: pa.Array) -> np.ndarray:
    """Return the ascending positions of rows with some of these ids. Reads the id column."""
    found, position = [np.empty(0, dtype=np.int64)], 0
    for batch in _ids_of(source):
        hits = pc.call_function("is_in", [batch], pc.SetLookupOptions(ids))
        found.append(position + np.flatnonzero(hits.to_numpy(zero_copy_only=False)))
        position += len(batch)
    return np.concatenate(found).astype(np.int64)


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


def _ids_of(source: PoolSource) -> Iterator[pa.Array]:
    """Yield the ids of all rows, batch by batch; none of them is empty."""
    rows: Any = getattr(source, "row_batches", None)
    batches = source.batches(0, source.num_rows) if rows is None else rows(0, source.num_rows, [])
    yield from (ids_to_arrow(ids) for ids, _ in batches if len(ids))


def ids_given(ids: Any, source: PoolSource, option: str) -> pa.Array:
    """Return ids in memory (any sequence, array, tensor, series or Arrow column) as an Arrow array of the pool's kind.

    Raises:
        InputError: they are of another kind than the pool's, or null (names the option).
    """
    kind = pa.int64() if source.id_kind == "int" else pa.string()
    wanted = int if source.id_kind == "int" else str
    values = [_as_whole(value) if wanted is int else value for value in _as_list(ids, option)]
    wrong = next((value for value in values if not isinstance(value, wanted) or isinstance(value, bool)), None)
    if wrong is not None or None in values:
        raise InputError(f"{option} holds {wrong!r}, but the pool has {source.id_kind} ids: give ids of the same kind")
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise InputError(f"{option} holds what no id can be: {error}; give ids of the pool") from error


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
    is_real = isinstance(value, float | decimal.Decimal)
    return int(value) if is_real and value == value and abs(value) < 2**63 and value == int(value) else value


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
