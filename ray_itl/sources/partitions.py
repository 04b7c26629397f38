"""Columns that folders give: lang=en/part.parquet says that lang is "en" in every row of the file.

As pyarrow reads them with partitioning="hive"; of a pyarrow Dataset by whatever partitioning it was opened with.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as pads

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FolderColumns:
    """Columns that folders give, of some files."""

    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """File -> column -> its value there; a column is null in files that have no value of it."""

    def of(self, file: str) -> Mapping[str, Any]:
        """Return the values of one file."""
        return self.values.get(file, {})

    def without(self, column: str) -> FolderColumns:
        """Return these columns but for one."""
        if column not in self.types:
            return self
        values = {file: {k: v for k, v in keys.items() if k != column} for file, keys in self.values.items()}
        return FolderColumns({k: v for k, v in self.types.items() if k != column}, values)


def hive_columns(paths: Sequence[str]) -> FolderColumns:
    """Return the columns in paths of files, relative to the pool's root.

    A column is of int32 if all its values are such numbers, else of text.
    """
    values = {path: _keys(path) for path in paths}
    found: dict[str, list[str]] = {}
    for keys in values.values():
        for name, value in keys.items():
            found.setdefault(name, []).extend([] if value is None else [value])
    return FolderColumns(
        {name: _type(of_name) for name, of_name in found.items()},
        {path: keys for path, keys in values.items() if keys},
    )


def with_tables(columns: FolderColumns, given: Mapping[str, Mapping[str, pa.Scalar]]) -> FolderColumns:
    """Return columns with those that the logs of tables give of their files, whatever folders are called there."""
    types = {name: value.type for keys in given.values() for name, value in keys.items()}
    values = {path: {name: value.as_py() for name, value in keys.items()} for path, keys in given.items() if keys}
    return FolderColumns({**columns.types, **types}, {**columns.values, **values})


def dataset_columns(dataset: pads.FileSystemDataset, names: Mapping[str, str]) -> FolderColumns:
    """Return the columns that a dataset's partitioning gives; `names` maps paths of its files to those in the pool."""
    known = {posixpath.normpath(path): name for path, name in names.items()}
    values: dict[str, Mapping[str, Any]] = {}
    for fragment in dataset.get_fragments():
        keys = pads.get_partition_keys(fragment.partition_expression)
        if keys:
            values[known[posixpath.normpath(fragment.path)]] = keys
    found = dict.fromkeys(name for keys in values.values() for name in keys)
    own = dataset.schema
    return FolderColumns({name: own.field(name).type for name in found if name in own.names}, values)


def _keys(path: str) -> dict[str, str | None]:
    keys: dict[str, str | None] = {}
    for folder in posixpath.dirname(path).split("/"):
        name, is_key, value = folder.partition("=")
        if is_key:
            keys.setdefault(unquote(name), None if value == _NULL else unquote(value))
    return keys


def _type(values: Sequence[str]) -> pa.DataType:
    try:
        return pa.array(values, pa.string()).cast(pa.int32()).type if values else pa.string()
    except pa.ArrowException:
        return pa.string()
