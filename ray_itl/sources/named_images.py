"""Images that a column names by their paths, as Hugging Face's datasets keeps those that it has not copied.

Such a column holds structs with `bytes` and `path`, of which only the path is set. Files are read where rows are, and
only those that are called as images are: a dataset from elsewhere is not to bring in any file of this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.io.filesystems import inaccessible
from ray_itl.io.image_files import is_image

MOST_ROWS = 64
"""Rows that are read at a time where they name images: nothing tells how large these are."""
_FIELDS = {"bytes", "path"}


def named_images(schema: pa.Schema) -> list[str]:
    """Return the columns that may name images."""
    structs = (field for field in schema if pa.types.is_struct(field.type))
    return [field.name for field in structs if {each.name for each in field.type.fields} == _FIELDS]


def with_contents(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with the bytes of all images that it names.

    Raises:
        InputError: one that is called as an image cannot be read (names it).
        StorageError: storage failed for the moment.
    """
    for name in named_images(batch.schema):
        place, column = batch.schema.get_field_index(name), batch.column(name)
        if column.field("bytes").null_count:
            values = [_with_content(value) for value in column.to_pylist()]
            batch = batch.set_column(place, batch.schema.field(place), pa.array(values, column.type))
    return batch


def table_with_contents(table: pa.Table) -> pa.Table:
    """Return the same of a table."""
    if not named_images(table.schema):
        return table
    return pa.Table.from_batches([with_contents(batch) for batch in table.to_batches()], table.schema)


def _with_content(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is None or value["bytes"] is not None or not value["path"] or not is_image(value["path"]):
        return value
    try:
        return {**value, "bytes": Path(value["path"]).read_bytes()}
    except OSError as error:
        raise inaccessible(value["path"], error) or InputError(
            f"file {value['path']!r} cannot be read: {error}; restore it"
        ) from error
