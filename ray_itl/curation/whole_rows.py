"""The picks as whole rows, in the form that the pool came in: what a trainer reads next.

Nothing is unified over files: a row is written with the columns that its own file has, so that a field which only some
files have, or have in another type, comes through.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO
from uuid import UUID

import numpy as np

from ray_itl.curation.picked_images import write_picked_images
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.source_rows import tables_by_file
from ray_itl.errors import ConfigError
from ray_itl.io.atomic import write_atomic
from ray_itl.io.image_files import is_image_folder
from ray_itl.io.text_files import text_format
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.base import PoolSource
from ray_itl.sources.files.arrow import is_arrow
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.parquet import ParquetSource

LINES, CSV, FOLDER = "selection.jsonl", "selection.csv", "selection"
Row = dict[str, Any]


def form_of(source: PoolSource, asked: str) -> str:
    """Return what `run.output` means for a pool: with auto, the form of all its files, else parquet.

    Raises:
        ConfigError: rows without columns, or that are no images, have no such form.
    """
    own = _forms(source)
    if asked == "auto":
        return own.pop() if len(own) == 1 else "parquet"
    if asked != "parquet" and not isinstance(source, ParquetSource | TableSource):
        raise ConfigError(f"run.output={asked}, but the pool is an array, whose rows have no columns: leave it out")
    if asked == "folder" and own != {"folder"}:
        raise ConfigError("run.output=folder, but the pool is no folder of images: leave it out, or say jsonl")
    return asked


def _forms(source: PoolSource) -> set[str]:
    """Return the forms that the files of a pool are in; a saved Hugging Face dataset has one that none trains from."""
    if not isinstance(source, ParquetSource):
        return {"parquet"}
    paths = [file.path for file in source.manifest.files]
    return {"folder" if is_image_folder(path) else "jsonl" if is_arrow(path) else _text_form(path) for path in paths}


def _text_form(path: str) -> str:
    found = text_format(path)
    forms = {"json": "jsonl", "csv": "csv"}
    return "parquet" if found is None else forms.get(found.syntax, "parquet")


def file_of(source: PoolSource, asked: str) -> str | None:
    """Return the file, or folder, that whole rows are written to; None where selection.parquet is all."""
    files = {"parquet": None, "jsonl": LINES, "csv": CSV, "folder": FOLDER}
    return files[form_of(source, asked)]


def write_whole_rows(run: RunDirectory, source: PoolSource, positions: np.ndarray, options: RunSettings) -> None:
    """Write what `run.output` asks for besides selection.parquet: the rows at positions, in that order.

    Raises:
        InputError: rows that cannot be read any more.
        RunDirectoryError: the file cannot be written.
    """
    name = file_of(source, options.output)
    if name is None or not isinstance(source, ParquetSource | TableSource):
        return
    if name == FOLDER and isinstance(source, ParquetSource):
        write_picked_images(run.path / name, source, positions, options.links)
        return
    rows = _whole_rows(source, positions)
    write_atomic(run.path / name, lambda file: _write_lines(file, rows) if name == LINES else _write_csv(file, rows))


def _whole_rows(source: ParquetSource | TableSource, positions: np.ndarray) -> list[Row]:
    """Return the rows, each with the columns of its file, but for the embedding; of images, without their bytes."""
    rows: list[Row] = [{} for _ in positions]
    for places, table in tables_by_file(source, positions, without_images=True):
        for place, row in zip(places, table.to_pylist(), strict=True):
            rows[place] = row
    return rows


def _write_lines(file: BinaryIO, rows: Sequence[Row]) -> None:
    for row in rows:
        file.write(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _write_csv(file: BinaryIO, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    text.flush()
    text.detach()


def _cell(value: Any) -> Any:
    """Return a value as CSV has it: what has parts, as JSON."""
    plain = _plain(value)
    if isinstance(plain, dict | list):
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)
    return str(plain).lower() if isinstance(plain, bool) else "" if plain is None else plain


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: fields that are null are left out, bytes are base64, times ISO 8601."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal | UUID):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
