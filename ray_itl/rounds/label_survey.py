"""Labels as the files have them, looked through before the first round: what would come out rounds later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.rounds.classes import Classes, kind_of, nearest, shown
from ray_itl.rounds.data import TuningData
from ray_itl.sources.base import RowSource
from ray_itl.sources.schema import which_row
from ray_itl.text import plural

_MOST_KEPT = 10_000
"""Labels of other classes that are remembered: to look at each once, and to name one that is near to a class."""


def check_labels(data: TuningData, in_pool: bool, warn: Callable[[str], object]) -> None:
    """Compare `data.classes` with what label columns hold; one pass over these columns.

    Args:
        data: The rows; the labels of the held-out ones are read where the objective needs them.
        in_pool: Whether the pool has labels.
        warn: Told of rows without a label, and of classes that no row has.

    Raises:
        InputError: a value that is no label beside the classes, or none of them is in the pool.
    """
    if data.objective == "classification":
        found = _survey(data.heldout, "data.heldout", data, has_ids=False)
        _warn_of_absent(found, "data.heldout", data.classes, warn)
    if not in_pool or not data.classes.values:
        return
    found = _survey(data.pool, "data.pool", data, has_ids=True)
    column = data.options.label_column
    if not found.classes:
        held = ", ".join(map(shown, found.others[:5])) or "nothing"
        words = (
            f"no row of data.pool is of data.classes={data.options.classes}: its column {column!r} holds {held}; "
            "correct data.classes or data.label_column"
        )
        if data.objective == "classification" and data.options.others == "drop":
            raise InputError(words)
        warn(words)
    else:
        _warn_of_absent(found, "data.pool", data.classes, warn)
    if found.num_missing:
        warn(
            f"data.pool has no label in column {column!r} in {plural(found.num_missing, 'row')} (the first: "
            f"{found.first_missing}): a round that picks one ends with an error; label them, or drop them"
        )


@dataclass
class _Found:
    """What a column of labels holds."""

    classes: set[tuple[str | None, Any]] = field(default_factory=set)
    others: list[Any] = field(default_factory=list)
    """The first labels of no class, each once."""
    num_missing: int = 0
    first_missing: str = ""


def _survey(rows: RowSource, name: str, data: TuningData, has_ids: bool) -> _Found:
    """Look at every label of some rows; InputError about the first value that is none."""
    found, seen, start = _Found(), set(), 0
    for ids, batch in rows.row_batches(0, rows.num_rows, [data.options.label_column]):
        labels = batch.column(0)
        for value in _distinct(labels):
            key = (kind_of(value), value if kind_of(value) else None)
            if key in seen:
                continue
            is_missing = value is None or value != value
            problem = None if is_missing else data.classes.problem(value)
            if is_missing or problem:
                rows_of_it = [k for k, each in enumerate(labels.to_pylist()) if _same(each, value)]
                files, numbers = rows.locate(np.array([start + rows_of_it[0]]))
                place = which_row(files[0], int(numbers[0]))
                if problem:
                    who = f", id {ids[rows_of_it[0] : rows_of_it[0] + 1].tolist()[0]!r}" if has_ids else ""
                    raise InputError(f"{name}, column {data.options.label_column!r}: {place}{who}: {problem}")
                found.first_missing = found.first_missing or place
                found.num_missing += len(rows_of_it)
            elif data.classes.has(value):
                seen.add(key)
                found.classes.add(key)
            elif len(found.others) < _MOST_KEPT:
                seen.add(key)
                found.others.append(value)
        start += len(ids)
    return found


def _distinct(labels: pa.Array) -> list[Any]:
    try:
        return labels.unique().to_pylist()
    except pa.ArrowNotImplementedError:  # lists and structs, of which the first will be refused
        return labels.to_pylist()


def _same(one: Any, other: Any) -> bool:
    return one is other or one == other or (one is not None and one != one and other != other)


def _warn_of_absent(found: _Found, name: str, classes: Classes, warn: Callable[[str], object]) -> None:
    for value in classes.values:
        if (kind_of(value), value) not in found.classes:
            near = nearest(value, found.others)
            hint = "" if near is None or kind_of(near) != "text" else f"; the nearest label there is {shown(near)}"
            warn(f"data.classes lists {shown(value)}, which no row of {name} has{hint}")
