"""Opening rows as a source, whatever a caller hands over: paths, an Arrow table or dataset, an array."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import torch

from ray_itl.errors import InputError
from ray_itl.io.listing import PoolPaths
from ray_itl.sources.base import PathInput, PoolInput, PoolSource, RowSource
from ray_itl.sources.condition import Condition, rows_of_table_that_meet
from ray_itl.sources.in_memory import ArraySource, TableRows, TableSource
from ray_itl.sources.inspection import build_manifest, open_file
from ray_itl.sources.parquet import ParquetRows, ParquetSource
from ray_itl.sources.schema import find_column, name_columns
from ray_itl.sources.tables.listing import list_pool
from ray_itl.sources.views import filtered


def open_source(
    pool: PoolInput,
    *,
    id_column: str | None = None,
    embedding_column: str = "embedding",
    columns: Sequence[str] = (),
    condition: str | None = None,
    filesystem: pafs.FileSystem | None = None,
) -> PoolSource:
    """Open a pool, reading no more than Parquet footers, and check its columns.

    A dataset of plain Parquet files is streamed like its files; any other dataset is read into memory.

    Args:
        pool: Where the rows are; paths are resolved by `list_files`.
        id_column: Needed by files and tables; arrays have none, and a row's position is its id.
        embedding_column: The column of embeddings.
        columns: Those that `take` will be asked for.
        condition: The pool is the rows that meet it (see `sql`), for which the columns that it looks at are read.
        filesystem: What paths are on, if they do not say it.

    Raises:
        InputError: the pool cannot be used (says what is wrong with it and how to put it right).
        ConfigError: the condition cannot be used.
        StorageError: storage failed for the moment.
    """
    if not id_column and not isinstance(pool, np.ndarray | torch.Tensor):
        names = name_columns(_column_names(pool, filesystem))
        raise InputError(f"id_column is not set; set it to the column that names each row, one of: {names}")
    met = None if condition is None else _parsed(condition)
    return open_rows(pool, id_column or "", embedding_column, columns, filesystem, met)


def _parsed(condition: str) -> Condition:
    # Imported here so that shards, and runs without a filter, never load the library that reads it.
    from ray_itl.sources.sql import parse_condition

    return parse_condition(condition)


def open_rows(
    pool: PoolInput,
    id_column: str,
    embedding_column: str,
    columns: Sequence[str] = (),
    filesystem: pafs.FileSystem | None = None,
    condition: Condition | None = None,
) -> PoolSource:
    """Open rows of any kind as `open_source` does; an empty `id_column` makes positions the ids."""
    if isinstance(pool, np.ndarray | torch.Tensor):
        if id_column or columns or condition:
            raise InputError(
                "an array has no columns; leave the options that name one empty, pool.filter too, or hand over a "
                "pyarrow.Table or Parquet files"
            )
        return ArraySource(pool)
    if isinstance(pool, pads.Dataset):
        return _open_dataset(pool, id_column, embedding_column, columns, condition)
    if isinstance(pool, pa.Table):
        return _open_table(pool, id_column, embedding_column, columns, condition)
    return _open_files(_path_texts(pool), id_column, embedding_column, columns, filesystem, condition)


def open_raw_rows(
    pool: PathInput | Sequence[PathInput] | PoolPaths | pa.Table | pads.Dataset,
    *,
    id_column: str,
    columns: Sequence[str] = (),
    filesystem: pafs.FileSystem | None = None,
) -> RowSource:
    """Open rows that are yet to be embedded, as `open_source` does; `columns` are those that will be read."""
    if isinstance(pool, pads.Dataset):
        return _open_raw_dataset(pool, id_column, columns)
    if isinstance(pool, pa.Table):
        _check_columns(pool, columns)
        return TableRows(pool, id_column)
    paths = _path_texts(pool)
    manifest = build_manifest(paths, id_column=id_column, embedding_column="", columns=columns, filesystem=filesystem)
    return ParquetRows(manifest, filesystem)


def _open_raw_dataset(dataset: pads.Dataset, id_column: str, columns: Sequence[str]) -> RowSource:
    if _is_parquet(dataset):
        rows = open_raw_rows(dataset.files, id_column=id_column, columns=columns, filesystem=dataset.filesystem)
        if rows.num_rows == dataset.count_rows():
            return rows
    table = dataset.to_table(columns=_present(dataset.schema, {"id_column": [id_column], "columns": columns}))
    return open_raw_rows(table, id_column=id_column, columns=columns)


def _is_parquet(dataset: pads.Dataset) -> TypeGuard[pads.FileSystemDataset]:
    """Whether a dataset is Parquet files; where a filter drops some of their rows they count more rows than it."""
    return isinstance(dataset, pads.FileSystemDataset) and isinstance(dataset.format, pads.ParquetFileFormat)


def _present(schema: pa.Schema, options: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns that options name, each once and not if unset.

    Raises:
        InputError: one is not there.
    """
    wanted = [(option, name) for option, names in options.items() for name in names if name]
    return list(dict.fromkeys(find_column(schema, name, option, "").name for option, name in wanted))


def _open_dataset(
    dataset: pads.Dataset,
    id_column: str,
    embedding_column: str,
    columns: Sequence[str],
    condition: Condition | None,
) -> PoolSource:
    if _is_parquet(dataset):
        source = _open_files(dataset.files, id_column, embedding_column, columns, dataset.filesystem)
        if source.num_rows == dataset.count_rows():
            return source if condition is None else filtered(source, condition, dataset.filesystem)
    options = {"id_column": [id_column], "embedding_column": [embedding_column], "columns": columns}
    options |= {} if condition is None else {"pool.filter": condition.columns}
    table = dataset.to_table(columns=_present(dataset.schema, options))
    return _open_table(table, id_column, embedding_column, columns, condition)


def _open_table(
    table: pa.Table, id_column: str, embedding_column: str, columns: Sequence[str], condition: Condition | None
) -> TableSource:
    _check_columns(table, columns)
    kept = None if condition is None else rows_of_table_that_meet(condition, table)
    return TableSource(table, id_column, embedding_column, kept)


def _check_columns(table: pa.Table, columns: Sequence[str]) -> None:
    for column in columns:
        find_column(table.schema, column, "columns", "")


def _open_files(
    paths: Sequence[str] | PoolPaths,
    id_column: str,
    embedding_column: str,
    columns: Sequence[str],
    filesystem: pafs.FileSystem | None,
    condition: Condition | None = None,
) -> ParquetSource:
    manifest = build_manifest(
        paths, id_column=id_column, embedding_column=embedding_column, columns=columns, filesystem=filesystem
    )
    source = ParquetSource(manifest, filesystem)
    return source if condition is None else filtered(source, condition, filesystem)


def _path_texts(pool: PathInput | Sequence[PathInput] | PoolPaths) -> list[str] | PoolPaths:
    if isinstance(pool, PoolPaths):
        return pool
    is_list = isinstance(pool, list | tuple)
    paths: list[Any] = list(pool) if isinstance(pool, list | tuple) else [pool]
    wrong = [type(path).__name__ for path in paths if not isinstance(path, str | os.PathLike)]
    if wrong:
        found = f"a list that holds {wrong[0]}" if is_list else f"of type {wrong[0]}"
        raise InputError(
            f"the pool is {found}; hand over paths, a pyarrow.Table or dataset, a numpy array or a torch tensor"
        )
    return [os.fspath(path) for path in paths]


def _column_names(pool: Any, filesystem: pafs.FileSystem | None) -> list[str]:
    """Return the columns of a table, of a dataset, or of the first of some files."""
    if isinstance(pool, pa.Table | pads.Dataset):
        return pool.schema.names
    listing = list_pool(_path_texts(pool), filesystem)
    with open_file(listing, listing.filesystem, listing.paths[0]) as file:
        return file.schema_arrow.names
