"""What people label a round by: its rows as Parquet, as a table for spreadsheets, and as a page to click through."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.core.trajectory import Pick
from ray_itl.errors import MissingExtraError
from ray_itl.images import picture_of_numbers
from ray_itl.io.atomic import write_atomic, write_parquet_table
from ray_itl.report.label_page import LabelPage, render_label_page
from ray_itl.report.table import holds_images
from ray_itl.rounds.classes import OTHER, Classes
from ray_itl.rounds.label_files import SKIP, GivenLabels, names_of, written
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import id_arrow_type
from ray_itl.text import clip, plain
from ray_itl.training.chat import as_people_read

_CELL_CHARS = 30_000
"""Spreadsheets hold no more than 32,767 in a cell."""


def write_to_label(
    folder: RoundFolder, rows: RowSource, picks: Sequence[Pick], settings: FineTuneSettings, given: GivenLabels
) -> str | None:
    """Write to_label.parquet, .csv and .html: the picks with what people look at, and the labels there are by now.

    Returns:
        Why there is no page, or no pictures in it, where a library is missing.

    Raises:
        RunDirectoryError: the folder cannot be written.
        ConfigError: classes that cannot be told apart in writing.
    """
    data = settings.data
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    names = [name for name in dict.fromkeys([data.raw_column, *settings.labels.columns]) if name != "id"]
    table = rows.take(positions, names)
    ids = pa.array(given.ids, id_arrow_type(rows.id_kind))
    write_parquet_table(folder.to_label, table.add_column(0, "id", ids))
    cells = [_cell(row_id, label, given) for row_id, label in zip(given.ids, given.labels, strict=True)]
    files, numbers = rows.locate(positions)
    columns = {name: as_people_read(table.column(name)) for name in names}
    write_atomic(folder.to_label_table, _spreadsheet(given.ids, cells, columns, files, numbers))
    try:
        seen, problem = _seen(columns), None
    except MissingExtraError as error:
        seen, problem = {name: values for name, values in columns.items() if _is_text(values)}, str(error)
    page = LabelPage(
        title=f"Round {folder.number} of {folder.path.parents[1].name}",
        file="labels.csv",
        folder=str(folder.path),
        classes=[written(value) for value in names_of(Classes(data.classes)).values()],
        other=OTHER,
        skip=SKIP,
        ids=[written(row_id) for row_id in given.ids],
        columns=seen,
        places=[f"{file}, row {row}" if file else f"row {row}" for file, row in zip(files, numbers, strict=True)],
        given=cells,
        key=_key(folder, given.ids),
    )
    try:
        write_atomic(folder.to_label_page, render_label_page(page).encode())
    except MissingExtraError as error:
        return f"no {folder.to_label_page.name}: {error}"
    return None if problem is None else f"no pictures in {folder.to_label_page.name}: {problem}"


def _cell(row_id: Any, label: Any, given: GivenLabels) -> str:
    """Return what a row's label is in writing; empty where it has none yet."""
    return SKIP if row_id in given.skipped else "" if label is None else written(label)


def _spreadsheet(
    ids: Sequence[Any],
    labels: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    files: Sequence[str],
    numbers: np.ndarray,
) -> bytes:
    """Return the rows as CSV with the columns id and label first, and where to find what a cell cannot show."""
    texts = {name: values for name, values in columns.items() if _is_text(values)}
    header = ["id", "label", *(f"pool {name}" if name in ("id", "label") else name for name in texts), "file", "row"]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(written(name) for name in header)
    for row, (row_id, label) in enumerate(zip(ids, labels, strict=True)):
        cells = [written(clip(plain(values[row]), _CELL_CHARS)) for values in texts.values()]
        writer.writerow([written(row_id), label, *cells, written(files[row]), int(numbers[row])])
    return stream.getvalue().encode("utf-8-sig", errors="replace")  # by its mark spreadsheets know UTF-8


def _is_text(values: Sequence[Any]) -> bool:
    """Whether a column can be shown in a cell: not images or lists."""
    return not any(isinstance(value, bytes | list | Mapping) for value in values[:200])


def _seen(columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return what people can look at of some columns: texts and images, and of numbers the picture that they make.

    Vectors that make none are left out; and all vectors, where there is a column to look at beside them.
    """
    shown = {name: values for name, values in columns.items() if _is_text(values) or holds_images(values)}
    if shown:
        return shown
    drawn = {name: [_drawn(value) for value in values] for name, values in columns.items()}
    return {name: values for name, values in drawn.items() if holds_images(values)}


def _drawn(value: Any) -> bytes | None:
    is_list = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
    return picture_of_numbers(value) if is_list and value else None


def _key(folder: RoundFolder, ids: Sequence[Any]) -> str:
    """Return what tells the work on this round from that on others, in a browser that keeps it."""
    return sha256(f"{folder.path}\n{ids!r}".encode(errors="replace")).hexdigest()[:24]
