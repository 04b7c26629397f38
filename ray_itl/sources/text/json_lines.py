"""Files with a JSON object on every line, or one array of objects, as Arrow batches.

Types are those of all rows together: whole numbers become fractional where some rows have fractions, what a row lacks
is null. Texts stay texts, also those that look like times.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.json as pj

from ray_itl.errors import InputError

_BLOCK_BYTES, _PEEK_BYTES = 8 << 20, 256
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_LINE = 1 << 28
_LARGEST_ARRAY = 1 << 30
_ROW = re.compile(r" in row (\d+)$")


class UnendedLineError(InputError):
    """The last line, without an end, is no JSON: perhaps it is still being written."""


OpenText = Callable[[], IO[bytes]]
"""Opens the decompressed file anew."""


def json_batches(open_text: OpenText, name: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema of all rows, and the rows, some MiB at a time. Reads the file twice.

    Raises:
        InputError: a line is no JSON object, or a column holds things of different kinds (names file and row); from
            the iterator, too.
        OSError, pyarrow.ArrowException: the file cannot be read.
    """
    with open_text() as file:
        is_array = _first_byte(file) == b"["
    if is_array:
        table = _read_array(open_text, name)
        return table.schema, iter(table.to_batches())
    schema: pa.Schema | None = None
    for row, block in _blocks(open_text, name):
        found = _plain_schema(_parse(block, row, name, None).schema)
        schema = found if schema is None else _unified(schema, found, row, name)
    if schema is None:
        raise InputError(f"file {name!r} has no rows: write one JSON object on every line")
    return schema, _typed(open_text, name, schema)


def _typed(open_text: OpenText, name: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for row, block in _blocks(open_text, name):
        yield from _parse(block, row, name, schema).to_batches()


def _first_byte(file: IO[bytes]) -> bytes:
    start = b""
    while not start and (data := file.read(_PEEK_BYTES)):
        start = data.removeprefix(BYTE_ORDER_MARK).strip()
    return start[:1]


def _blocks(open_text: OpenText, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, and the number of the first row among them, counted from 0."""
    row, rest = 0, b""
    with open_text() as file:
        while data := file.read(_BLOCK_BYTES):
            data = rest + (data.removeprefix(BYTE_ORDER_MARK) if not row and not rest else data)
            end = data.rfind(b"\n") + 1
            block, rest = data[:end], data[end:]
            if len(rest) > _LONGEST_LINE:
                raise InputError(
                    f"file {name!r} row {row}: its line is longer than {_LONGEST_LINE >> 20} MiB; write one JSON "
                    "object on every line"
                )
            if block.strip():
                yield row, block
                row += _count(block)
    if rest.strip():
        yield row, rest


def _count(block: bytes) -> int:
    return sum(1 for line in block.split(b"\n") if line.strip())


def _parse(block: bytes, first_row: int, name: str, schema: pa.Schema | None) -> pa.Table:
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer")
    try:
        return pj.read_json(io.BytesIO(block), pj.ReadOptions(use_threads=True, block_size=len(block) + 1), options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _bad_line(block, first_row, name, str(error)) from error


def _bad_line(block: bytes, first_row: int, name: str, reason: str) -> InputError:
    """Return the error for the first line that is no JSON object or, where all are, for what differs among them."""
    lines = [line for line in block.split(b"\n") if line.strip()]
    for row, line in enumerate(lines, start=first_row):
        try:
            value = json.loads(line)
        except ValueError as error:
            kind = InputError if block.endswith(b"\n") or row < first_row + len(lines) - 1 else UnendedLineError
            return kind(f"file {name!r} row {row}: {_shown(line)} is no JSON ({error}); mend or drop the line")
        if not isinstance(value, dict):
            return InputError(
                f'file {name!r} row {row}: {_shown(line)} is no JSON object; write a row as {{"column": value}}'
            )
    match = _ROW.search(reason)
    row = first_row + int(match[1]) if match else first_row
    what = _ROW.sub("", reason).removeprefix("JSON parse error: ")
    return InputError(f"file {name!r} row {row}: {what}; give a column values of one kind in all rows")


def _shown(line: bytes) -> str:
    text = line.strip().decode("utf-8", "replace")
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _read_array(open_text: OpenText, name: str) -> pa.Table:
    """Read one JSON array of objects, whole."""
    with open_text() as file:
        data = file.read(_LARGEST_ARRAY + 1)
    if len(data) > _LARGEST_ARRAY:
        raise InputError(
            f"file {name!r} is one JSON array of more than {_LARGEST_ARRAY >> 30} GiB; write one JSON object on every "
            "line instead"
        )
    try:
        rows = json.loads(data)
    except ValueError as error:
        raise InputError(f"file {name!r} is no JSON ({error}); write one JSON object on every line") from error
    if not rows:
        raise InputError(f"file {name!r} has no rows: write one JSON object on every line")
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    schema, batches = json_batches(lambda: io.BytesIO(lines), name)
    return pa.Table.from_batches(batches, schema)


def _unified(schema: pa.Schema, found: pa.Schema, row: int, name: str) -> pa.Schema:
    """Return the schema of rows of two schemas."""
    fields = {field.name: field for field in schema}
    for field in found:
        known = fields.setdefault(field.name, field)
        try:
            both = pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(
                f"file {name!r}: column {field.name!r} is {known.type} before row {row} and {field.type} after it; "
                "give a column values of one kind in all rows"
            ) from error
        fields[field.name] = both.field(0)
    return pa.schema(list(fields.values()))


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema in which texts that look like times are texts."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return kind
