"""Labels of picked rows: from a column, from a function, or from people through files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.core.trajectory import Pick
from ray_itl.errors import InputError, LabelError, RayItlError
from ray_itl.extras import load_by_name
from ray_itl.io.atomic import write_parquet_table
from ray_itl.rounds.classes import Classes, python_value
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import DataSettings, LabelSettings
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import id_arrow_type
from ray_itl.sources.schema import which_row
from ray_itl.text import error_summary

_TO_LIST = ("to_pylist", "tolist", "to_list")
"""How arrays of Arrow, of NumPy, torch and pandas, and of polars become lists."""


def obtain_labels(
    folder: RoundFolder, rows: RowSource, picks: Sequence[Pick], data: DataSettings, settings: LabelSettings
) -> list[Any] | None:
    """Return the label of every pick, in order; None where people have yet to give them.

    labels.parquet in the round's folder (columns id and label, in any order of rows) is the truth once it is there.
    For people, to_label.parquet holds the ids and raw rows to label.

    Raises:
        InputError: labels.parquet lacks ids, has strangers or repeats; a function gave something else than a label for
            each row; or a value is no label beside data.classes (names the row, and the class that may be meant).
        LabelError: a function failed.
        ConfigError: the function cannot be imported.
    """
    classes = Classes(data.classes)
    given = folder.read_labels()
    if given is not None:
        return labels_in_order(given, picks, str(folder.labels), classes)
    ids = [pick.row_id for pick in picks]
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    if settings.source == "people":
        table = rows.take(positions, [data.raw_column])
        write_parquet_table(folder.to_label, table.add_column(0, "id", pa.array(ids, id_arrow_type(rows.id_kind))))
        return None
    if settings.source == "column":
        labels = rows.take(positions, [data.label_column]).column(0).combine_chunks()
        places = [which_row(file, int(row)) for file, row in zip(*rows.locate(positions), strict=True)]
        where = f"column {data.label_column!r} of the pool"
        _refuse_missing(labels.to_pylist(), ids, where)
        _refuse_strange(labels.to_pylist(), ids, places, where, classes)
    else:
        labels = _ask(settings.function or "", ids, rows.take(positions, [data.raw_column]), folder.number, classes)
    table = pa.table({"id": pa.array(ids, id_arrow_type(rows.id_kind)), "label": labels})
    write_parquet_table(folder.labels, table)
    return labels.to_pylist()


def _ask(name: str, ids: list[Any], rows: pa.Table, number: int, classes: Classes) -> pa.Array:
    """Return the labels that a function gives the rows of round `number`."""
    function = load_by_name(name, {}, option="labels.function")
    where = f"labels.function={name} in round {number}"
    try:
        labels = [python_value(label) for label in _labels_in(function(list(ids), rows), ids, where)]
    except RayItlError:
        raise
    except Exception as error:
        raise LabelError(
            f"{where} failed ({error_summary(error)}): the rows are picked; once it works, the same command goes on "
            "from there"
        ) from error
    if len(labels) != len(ids):
        count = len(labels) if len(labels) < len(ids) else f"{len(labels)} or more"
        raise InputError(f"{where} returned {count} labels for {len(ids)} rows: return one for each, in their order")
    _refuse_strange(labels, ids, [f"row {row} (counting from 0)" for row in range(len(ids))], where, classes)
    try:
        return pa.array(labels)
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{where} must return one label a row, of one type: {error_summary(error)}") from error


def _labels_in(answer: Any, ids: Sequence[Any], where: str) -> Iterator[Any]:
    """Yield what a function returned in place of labels, at most one more than there are ids."""
    no_list = isinstance(answer, str | bytes | Mapping | set | frozenset) or hasattr(answer, "columns")
    if no_list or (not isinstance(answer, Iterable) and not hasattr(answer, "__getitem__")):
        raise InputError(
            f"{where} returned a {type(answer).__name__}: return a list with a label for each id, in their order"
        )
    index = getattr(answer, "index", None)  # of a pandas Series; a method of lists
    if index is not None and not callable(index) and list(index) not in (list(range(len(ids))), list(ids)):
        raise InputError(
            f"{where} returned a {type(answer).__name__} whose index is neither the ids in their order nor 0, 1, ...: "
            "bring it into the order of the ids"
        )
    convert = next((getattr(answer, name) for name in _TO_LIST if hasattr(answer, name)), None)
    yield from islice(answer if convert is None else convert(), len(ids) + 1)


def labels_in_order(table: pa.Table, picks: Sequence[Pick], where: str, classes: Classes) -> list[Any]:
    """Return the labels of a table (columns id and label) in the order of the picks.

    Args:
        table: What `where` names.
        picks: Those that are labelled.
        where: Begins the message of an error.
        classes: Beside which the values must be labels.

    Raises:
        InputError: the labels are not just those of the picks, or one is none.
    """
    missing = {"id", "label"} - set(table.column_names)
    if missing:
        raise InputError(f"{where} has no column {', '.join(sorted(missing))}: give the columns id and label")
    ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
    wanted = [pick.row_id for pick in picks]
    known, asked = set(ids), set(wanted)
    for problem, found in (
        ("repeats ids", [row_id for row_id, count in Counter(ids).items() if count > 1]),
        ("lacks ids", [row_id for row_id in wanted if row_id not in known]),
        ("has ids that were not asked for", [row_id for row_id in ids if row_id not in asked]),
    ):
        if found:
            raise InputError(f"{where} {problem} ({_some(found)}): give one label for each row of to_label.parquet")
    _refuse_missing(labels, ids, where)
    places = [f"row {row} (counting from 0)" for row in range(len(ids))]
    _refuse_strange(labels, ids, places, where, classes)
    by_id = dict(zip(ids, labels, strict=True))
    return [by_id[row_id] for row_id in wanted]


def _refuse_missing(labels: Sequence[Any], ids: Sequence[Any], where: str) -> None:
    if found := [row_id for row_id, label in zip(ids, labels, strict=True) if label is None]:
        raise InputError(f"{where} has no label for ids ({_some(found)}): give one label for each row")


def _refuse_strange(
    labels: Sequence[Any], ids: Sequence[Any], places: Sequence[str], where: str, classes: Classes
) -> None:
    """Raise InputError about the first value that is no label, and say how many there are."""
    problems = [(k, words) for k, label in enumerate(labels) if (words := classes.problem(label)) is not None]
    if problems:
        k, words = problems[0]
        more = f" ({len(problems) - 1:,} more rows are no better)" if len(problems) > 1 else ""
        raise InputError(
            f"{where}: {places[k]}, id {ids[k]!r}: {words}{more}; correct the labels, or data.classes in a new run"
        )


def _some(found: Sequence[Any]) -> str:
    return ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")
