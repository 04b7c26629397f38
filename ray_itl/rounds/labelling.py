"""Labels of picked rows: from a column, from a function, or from people through files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.core.trajectory import Pick
from ray_itl.errors import InputError
from ray_itl.extras import load_by_name
from ray_itl.io.atomic import write_parquet_table
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import DataSettings, LabelSettings
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import id_arrow_type


def obtain_labels(
    folder: RoundFolder, rows: RowSource, picks: Sequence[Pick], data: DataSettings, settings: LabelSettings
) -> list[Any] | None:
    """Return the label of every pick, in order; None where people have yet to give them.

    labels.parquet in the round's folder (columns id and label, in any order of rows) is the truth once it is there.
    For people, to_label.parquet holds the ids and raw rows to label.

    Raises:
        InputError: labels.parquet lacks ids, has strangers, repeats or nulls, or a function gave something else than a
            label for each row.
        ConfigError: the function cannot be imported.
    """
    given = folder.read_labels()
    if given is not None:
        return _in_order(given, picks, str(folder.labels))
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    if settings.source == "people":
        table = rows.take(positions, [data.raw_column])
        ids = pa.array([pick.row_id for pick in picks], id_arrow_type(rows.id_kind))
        write_parquet_table(folder.to_label, table.add_column(0, "id", ids))
        return None
    if settings.source == "column":
        labels = rows.take(positions, [data.label_column]).column(0).combine_chunks()
    else:
        function = load_by_name(settings.function or "", {}, option="labels.function")
        labels = _call(function, picks, rows.take(positions, [data.raw_column]), settings.function or "")
    table = pa.table({"id": pa.array([pick.row_id for pick in picks], id_arrow_type(rows.id_kind)), "label": labels})
    ordered = _in_order(table, picks, f"column {data.label_column!r} of the pool")
    write_parquet_table(folder.labels, table)
    return ordered


def _call(function: Callable[..., Any], picks: Sequence[Pick], rows: pa.Table, name: str) -> pa.Array:
    labels = function([pick.row_id for pick in picks], rows)
    try:
        array = pa.array(list(labels))
    except (TypeError, pa.ArrowException) as error:
        raise InputError(f"labels.function={name} must return one label a row, of one type: {error}") from error
    if len(array) != len(picks):
        raise InputError(f"labels.function={name} returned {len(array)} labels for {len(picks)} rows: return one each")
    return array


def _in_order(table: pa.Table, picks: Sequence[Pick], where: str) -> list[Any]:
    """Return the labels in the order of the picks, after checking that they are just theirs."""
    missing = {"id", "label"} - set(table.column_names)
    if missing:
        raise InputError(f"{where} has no column {', '.join(sorted(missing))}: give the columns id and label")
    ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
    wanted = [pick.row_id for pick in picks]
    known, asked = set(ids), set(wanted)
    repeated = [row_id for row_id, count in Counter(ids).items() if count > 1]
    for problem, found in (
        ("repeats ids", repeated),
        ("lacks ids", [row_id for row_id in wanted if row_id not in known]),
        ("has ids that were not asked for", [row_id for row_id in ids if row_id not in asked]),
        ("has no label for ids", [row_id for row_id, label in zip(ids, labels, strict=True) if label is None]),
    ):
        if found:
            shown = ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")
            raise InputError(f"{where} {problem} ({shown}): give one label for each row of to_label.parquet")
    by_id = dict(zip(ids, labels, strict=True))
    return [by_id[row_id] for row_id in wanted]
