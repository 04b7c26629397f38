"""CSV and TSV files as Arrow batches.

The first line names the columns. A column is of the narrowest type that all its values have: whole numbers, numbers,
truth values, dates or times, else text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as pacsv

from ray_itl.errors import InputError
from ray_itl.sources.text.json_lines import BYTE_ORDER_MARK, OpenText

_BLOCK_BYTES = 8 << 20
_COLUMN = re.compile(r"In CSV column #(\d+): CSV conversion error to (.*?): ")
_MOST_TRIES = 3
"""A column's type is widened so many times: whole numbers, numbers, text."""


def delimited_batches(open_text: OpenText, name: str, delimiter: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema of all rows, and the rows, some MiB at a time. Reads the file twice, or more often.

    It is read until a value does not fit its column's type, which the first rows set; then anew with a wider one.

    Raises:
        InputError: it has no rows, or a row has more or fewer values than there are names (names file and row).
        OSError: the file cannot be read.
    """
    types: dict[str, pa.DataType] = {}
    tries: dict[str, int] = {}
    while True:
        try:
            schema, num_rows = None, 0
            for batch in _read(open_text, name, delimiter, types):
                schema, num_rows = batch.schema, num_rows + batch.num_rows
            break
        except _WiderError as wider:
            tries[wider.column] = tries.get(wider.column, 0) + 1
            types[wider.column] = pa.string() if tries[wider.column] >= _MOST_TRIES else wider.type
    if schema is None or not num_rows:
        raise InputError(
            f"file {name!r} has no rows: write the columns' names on the first line, and a row on each other"
        )
    types = {field.name: pa.string() if pa.types.is_null(field.type) else field.type for field in schema}
    return pa.schema(list(types.items())), _read(open_text, name, delimiter, types)


class _WiderError(Exception):
    """A column needs a wider type."""

    def __init__(self, column: str, kind: pa.DataType) -> None:
        self.column, self.type = column, kind


def _read(open_text: OpenText, name: str, delimiter: str, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    names: list[str] = []
    with open_text() as file:
        try:
            reader = pacsv.open_csv(
                file,
                pacsv.ReadOptions(block_size=_BLOCK_BYTES),
                pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pacsv.ConvertOptions(column_types=types),
            )
            names = reader.schema.names
            _check_names(names, name)
            yield from reader
        except pa.ArrowInvalid as error:
            raise _cause(str(error), names or _header(open_text, delimiter), name) from error


def _check_names(names: list[str], name: str) -> None:
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise InputError(f"file {name!r} names the column {twice!r} twice on its first line; rename one of them")


def _header(open_text: OpenText, delimiter: str) -> list[str]:
    """Return the columns' names, where the first rows could not be read."""
    with open_text() as file:
        start = file.read(1 << 16).removeprefix(BYTE_ORDER_MARK)
    line = start.split(b"\n", 1)[0].rstrip(b"\r") + b"\n"
    options = pacsv.ReadOptions(), pacsv.ParseOptions(delimiter=delimiter)
    return pacsv.read_csv(pa.BufferReader(line), *options).column_names


def _cause(reason: str, names: list[str], name: str) -> Exception:
    """Return the error that says what is wrong, or which column is of a wider type."""
    match = _COLUMN.search(reason)
    if match is not None:
        narrow = match[2]
        wider = pa.float64() if narrow == "int64" else pa.int64() if narrow == "null" else pa.string()
        return _WiderError(names[int(match[1])], wider)
    what = reason.removeprefix("CSV parse error: ")
    return InputError(
        f"file {name!r} cannot be read as CSV: {what}; give every row as many values as the first line has names, in "
        "UTF-8, and quote values that hold the delimiter"
    )
