"""Which Parquet files a Delta table has, by its log."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from ray_itl.extras import load_extra
from ray_itl.sources.tables.location import Location
from ray_itl.sources.tables.version import TableFiles, reading, refusal

_HARMLESS = {
    "columnMapping",  # checked below
    "deletionVectors",  # checked below
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantType",
    "variantType-preview",
}
"""Features of tables with which a file of a table is read as any other."""


def read_delta(folder: str, location: Location, version: int | None) -> TableFiles:
    """Return a Delta table's files at a version (None: the newest).

    Raises:
        InputError: the table cannot be read, or its files alone do not say what its rows are.
        MissingExtraError: the library is not installed.
    """
    library = load_extra("deltalake", f"the Delta table {folder!r}", "tables")
    with reading("delta", folder, version):
        table = library.DeltaTable(location.address, version=version, storage_options=location.object_store or None)
        _check_features(table, folder)
        actions = pa.table(table.get_add_actions(flatten=False))
        partitions = actions["partition"] if "partition" in actions.column_names else None
        files = {}
        for row, name in enumerate(actions["path"].to_pylist()):
            path = unquote(name)
            if path.startswith("/") or ":/" in path:
                raise refusal("delta", folder, f"has files outside of its folder ({path!r})", "copy it as a whole")
            values = {} if partitions is None else _fields(partitions[row])
            files[posixpath.join(folder, path)] = values
        return TableFiles(table.version(), files)


def _fields(value: Any) -> dict[str, pa.Scalar]:
    return {field.name: value[field.name] for field in value.type}


def _check_features(table: Any, folder: str) -> None:
    features = set(table.protocol().reader_features or ())
    if unknown := sorted(features - _HARMLESS):
        raise refusal("delta", folder, f"has features that are not read ({', '.join(unknown)})", "export it to Parquet")
    if "deletionVectors" in features:
        marked = pa.table(table.deletion_vectors()).num_rows
        if marked:
            problem = f"has deletion vectors, which mark deleted rows in {marked} of its files"
            raise refusal("delta", folder, problem, "write these anew (REORG TABLE ... APPLY (PURGE)), then try again")
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none" and any(name != physical for name, physical in _mapped(json.loads(table.schema().to_json()))):
        problem = "names columns otherwise than its files do (column mapping)"
        raise refusal("delta", folder, problem, "write it anew without, or export it to Parquet")


def _mapped(schema: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of all fields of a schema in JSON, at any depth, and what files call them."""
    if isinstance(schema, list):
        for each in schema:
            yield from _mapped(each)
    elif isinstance(schema, dict):
        if "name" in schema and "metadata" in schema:
            yield schema["name"], schema["metadata"].get("delta.columnMapping.physicalName", schema["name"])
        for key in ("fields", "type", "elementType", "keyType", "valueType"):
            yield from _mapped(schema.get(key))
