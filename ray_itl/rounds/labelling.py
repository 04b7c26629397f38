"""Labels of picked rows: from a column, from a function, or from people through files."""

from __future__ import annotations

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
from ray_itl.rounds.group_settings import DataSettings, LabelSettings
from ray_itl.rounds.label_files import GivenLabels, read_labels, some
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import id_arrow_type
from ray_itl.sources.schema import which_row
from ray_itl.text import error_summary

_TO_LIST = ("to_pylist", "tolist", "to_list")
"""How arrays of Arrow, of NumPy, torch and pandas, and of polars become lists."""


def obtain_labels(
    folder: RoundFolder, rows: RowSource, picks: Sequence[Pick], data: DataSettings, settings: LabelSettings
) -> GivenLabels:
    """Return the labels of a round's picks; where people give them, those that there are by now.

    Files in the round's folder (see `label_files.read_labels`) are the truth once they are there.

    Raises:
        InputError: such a file cannot be used; a function gave something else than a label for each row; or a value is
            no label beside data.classes (names the row, and the class that may be meant).
        LabelError: a function failed.
        ConfigError: the function cannot be imported.
    """
    classes = Classes(data.classes)
    ids = [pick.row_id for pick in picks]
    files = folder.label_files()
    if files or settings.source == "people":
        given = read_labels(files, ids, classes)
        if settings.source != "people" and given.missing:
            raise InputError(f"{folder.labels} has no label for ids ({some(given.missing)}): restore it")
        return given
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
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
    return GivenLabels(ids, labels.to_pylist())


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


def _refuse_missing(labels: Sequence[Any], ids: Sequence[Any], where: str) -> None:
    if found := [row_id for row_id, label in zip(ids, labels, strict=True) if label is None]:
        raise InputError(f"{where} has no label for ids ({some(found)}): give one label for each row")


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
