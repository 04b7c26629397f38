"""Opening rows as a source, whatever a caller hands over: paths, an Arrow table or dataset, an array."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import torch

from ray_itl.errors import InputError
from ray_itl.io.listing import OnText, PoolPaths
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.arrays import WITH_COLUMNS, ArraySource
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PathInput, PoolInput, PoolSource, RowSource
from ray_itl.sources.columns import Asked, by_option
from ray_itl.sources.condition import Condition, RowMask, rows_of_table_that_meet
from ray_itl.sources.encoding import RawColumn
from ray_itl.sources.in_memory import TableRows, TableSource
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.parquet import ParquetRows, ParquetSource
from ray_itl.sources.schema import find_column
from ray_itl.sources.turns import MESSAGES, PAIR, stands_in_pair, types_of, with_messages
from ray_itl.sources.views import FilteredSource, filtered, narrowed

_MAY_BE = (
    "hand over paths, a pyarrow.Table or dataset, a frame of pandas or polars, a Hugging Face dataset, a list of "
    "texts, a numpy array or a torch tensor"
)
TEXT = "text"
"""The column of a list of texts."""
_LONGEST_PATH = 4096
_SAMPLE_ROWS = 64
_READ_AS_THEY_ARE = (str, os.PathLike, list, tuple, pa.Table, pads.Dataset, np.ndarray, torch.Tensor)


def readable(rows: Any, what: str) -> Any:
    """Return what a caller hands over as `open_source` takes it.

    Lists of texts (as a column `text`), frames of pandas and polars, Hugging Face datasets, and whatever else has the
    Arrow PyCapsule interface, become tables; paths, tables, datasets of Arrow, arrays and tensors stay.

    Raises:
        InputError: it is none of these (names `what` it was to be).
    """
    if is_texts(rows):
        return pa.table({TEXT: pa.array(rows, pa.string())})
    if isinstance(rows, _READ_AS_THEY_ARE):
        return rows
    if hasattr(rows, "__arrow_c_stream__"):
        table = pa.table(rows)
        return table.drop_columns([name for name in table.column_names if _NAMELESS_INDEX.fullmatch(name)])
    if isinstance(rows, Mapping) and rows and all(_is_hub_dataset(part) for part in rows.values()):
        names = ", ".join(repr(name) for name in rows)
        raise InputError(f"{what} is a dictionary of datasets; hand over one of them, by its name: {names}")
    dataset: Any = rows
    if _is_hub_dataset(dataset):
        return dataset.with_format("arrow")[:]
    raise InputError(f"{what} is of type {type(rows).__name__}; {_MAY_BE}")


def is_texts(rows: Any) -> bool:
    """Whether a list is one of texts, rather than of paths: the first tells, by whether it may be one."""
    is_list = isinstance(rows, list | tuple) and bool(rows) and all(isinstance(text, str) for text in rows)
    return is_list and not _may_be_path(rows[0])


def _may_be_path(text: str) -> bool:
    """Whether a text names something that is there or, without blanks, may mean something that is not."""
    if len(text) > _LONGEST_PATH or "\n" in text:
        return False
    try:
        return (not re.search(r"\s", text) and re.search(r"[/\\]|\.\w+$", text) is not None) or Path(text).exists()
    except (OSError, ValueError):  # too long a name, or a null in it
        return False


def _is_hub_dataset(rows: Any) -> bool:
    """Whether it is a Hugging Face dataset with all its rows: streamed ones have no number of them."""
    return hasattr(rows, "with_format") and hasattr(rows, "column_names") and hasattr(rows, "num_rows")


_NAMELESS_INDEX = re.compile(r"__index_level_\d+__")
"""What becomes of the index of a pandas frame that has no name: a column nobody knows of."""
DEFAULT_ID = "id"
"""The id column unless another is named; rows may do without it."""


def open_source(
    pool: PoolInput,
    *,
    id_column: str | None = None,
    embedding_column: str = "embedding",
    columns: Sequence[str] | Mapping[str, str] = (),
    condition: str | None = None,
    filesystem: pafs.FileSystem | None = None,
    id_option: str = "id_column",
    embedding_option: str = "embedding_column",
    raw: RawColumn | None = None,
) -> PoolSource:
    """Open a pool, reading no more than Parquet footers, and check its columns.

    A dataset of plain Parquet files is streamed like its files, with the columns that its own schema has; any other
    dataset is read into memory.

    Args:
        pool: Where the rows are; paths are resolved by `list_files`.
        id_column: None, or "id" where there is no such column: rows of files are named "file:row", and of tables and
            arrays a row's position is its id.
        embedding_column: The column of embeddings.
        columns: Those that will be read besides, or each with the option that names it.
        condition: The pool is the rows that meet it (see `sql`), for which the columns that it looks at are read.
        filesystem: What paths are on, if they do not say it.
        id_option: The option that names the id column, for messages.
        embedding_option: The option that names the embedding column.
        raw: The column that is embedded where rows have no embeddings; None: they must have some.

    Raises:
        InputError: the pool cannot be used (says what is wrong with it and how to put it right).
        ConfigError: the condition cannot be used.
        StorageError: storage failed for the moment.
    """
    met = None if condition is None else _parsed(condition)
    asked = _asked(pool, id_column, embedding_column, columns, id_option, embedding_option)
    return _open_embedded(pool, replace(asked, raw=raw), filesystem, met)


def _asked(
    pool: Any,
    id_column: str | None,
    embedding_column: str,
    columns: Sequence[str] | Mapping[str, str],
    id_option: str,
    embedding_option: str,
) -> Asked:
    """Return what is asked of rows, of which those of files have names even without an id column."""
    asked = Asked(id_column or "", embedding_column, by_option(columns), id_option, embedding_option)
    has_files = not isinstance(pool, pa.Table | pads.Dataset) or (isinstance(pool, pads.Dataset) and _is_parquet(pool))
    if isinstance(pool, pa.Table | pads.Dataset) and id_column == DEFAULT_ID and DEFAULT_ID not in pool.schema.names:
        return replace(asked, id="", names_rows=has_files)
    return replace(asked, names_rows=has_files and id_column is None, may_lack_id=has_files and id_column == DEFAULT_ID)


def narrow(source: PoolSource, condition: str) -> tuple[PoolSource, RowMask]:
    """Return those rows of an open source that meet one more condition, and which they are.

    Raises:
        InputError: no row does, or the columns cannot be read.
        ConfigError: the condition cannot be used.
    """
    met = _parsed(condition)
    if isinstance(source, ParquetSource):
        found = narrowed(source, met)
        return found, found.kept.within(source.kept) if isinstance(source, FilteredSource) else found.kept
    if isinstance(source, TableSource):
        mask = rows_of_table_that_meet(met, source.table)
        return source.only(mask), mask
    raise InputError(f"pool.filter={condition}: an array has no columns; leave it out, or {WITH_COLUMNS}")


def columns_of(condition: str) -> tuple[str, ...]:
    """Return the columns that a condition looks at; ConfigError where it cannot be used."""
    return _parsed(condition).columns


def _parsed(condition: str) -> Condition:
    # Imported here so that shards, and runs without a filter, never load the library that reads it.
    from ray_itl.sources.sql import parse_condition

    return parse_condition(condition)


def open_rows(
    pool: PoolInput,
    id_column: str,
    embedding_column: str,
    columns: Sequence[str] | Mapping[str, str] = (),
    filesystem: pafs.FileSystem | None = None,
    id_option: str = "id_column",
    embedding_option: str = "embedding_column",
    raw: RawColumn | None = None,
) -> PoolSource:
    """Open rows of any kind as `open_source` does; an empty `id_column` makes positions the ids."""
    asked = Asked(id_column, embedding_column, by_option(columns), id_option, embedding_option, raw=raw)
    return _open_embedded(pool, asked, filesystem, None)


def _open_embedded(
    pool: PoolInput, asked: Asked, filesystem: pafs.FileSystem | None, condition: Condition | None
) -> PoolSource:
    if condition is not None:
        asked = replace(asked, further={**dict.fromkeys(condition.columns, "pool.filter"), **asked.further})
    if isinstance(pool, np.ndarray | torch.Tensor):
        if asked.id or asked.further:
            options = [*([asked.id_option] if asked.id else []), *asked.further.values()]
            named = ", ".join(dict.fromkeys(options))
            raise InputError(
                f"an array has no columns; leave the options that name one empty ({named}), or {WITH_COLUMNS}"
            )
        return ArraySource(pool)
    if isinstance(pool, pads.Dataset):
        return _open_dataset(pool, asked, condition)
    if isinstance(pool, pa.Table):
        return _open_table(pool, asked, condition)
    return _open_files(_asked_paths(pool), asked, filesystem, condition)


def open_raw_rows(
    pool: PathInput | Sequence[PathInput] | PoolPaths | pa.Table | pads.Dataset,
    *,
    id_column: str | None,
    columns: Sequence[str] | Mapping[str, str] = (),
    filesystem: pafs.FileSystem | None = None,
    id_option: str = "id_column",
    on_text: OnText | None = None,
) -> RowSource:
    """Open rows that are yet to be embedded, as `open_source` does; `columns` are those that will be read.

    An empty `id_column` makes positions the ids. Of `on_text` see `PoolPaths`.
    """
    asked = _asked(pool, id_column, "", columns, id_option, "embedding_column")
    if isinstance(pool, pads.Dataset):
        return _open_raw_dataset(pool, asked)
    if isinstance(pool, pa.Table):
        pool = with_messages(pool) if MESSAGES in asked.further else pool
        _check_columns(pool, asked)
        return TableRows(pool, asked.id, id_option=id_option)
    return ParquetRows(build_manifest(replace(_asked_paths(pool), on_text=on_text), asked, filesystem), filesystem)


def _open_raw_dataset(dataset: pads.Dataset, asked: Asked) -> RowSource:
    if _is_parquet(dataset):
        return ParquetRows(build_manifest(dataset.files, asked, dataset.filesystem, dataset), dataset.filesystem)
    return TableRows(_read_dataset(dataset, asked), asked.id, id_option=asked.id_option)


def _is_parquet(dataset: pads.Dataset) -> TypeGuard[pads.FileSystemDataset]:
    """Whether a dataset is Parquet files with all their rows."""
    if not isinstance(dataset, pads.FileSystemDataset) or not isinstance(dataset.format, pads.ParquetFileFormat):
        return False
    try:
        dataset.get_fragments()
    except ValueError:  # it was filtered
        return False
    return True


def _read_dataset(dataset: pads.Dataset, asked: Asked) -> pa.Table:
    """Return the columns asked for as a table; InputError if one is not there."""
    wanted = asked.options()
    if MESSAGES in wanted and stands_in_pair(MESSAGES, types_of(dataset.schema)):
        wanted |= dict.fromkeys(PAIR, wanted.pop(MESSAGES))
    table = dataset.to_table(columns=[find_column(dataset.schema, *named, "").name for named in wanted.items()])
    return with_messages(table) if MESSAGES in asked.further else table


def _open_dataset(dataset: pads.Dataset, asked: Asked, condition: Condition | None) -> PoolSource:
    if _is_parquet(dataset):
        files = dataset.filesystem
        source = _source_of(build_manifest(dataset.files, asked, files, dataset), asked, files)
        return source if condition is None else filtered(source, condition, files)
    asked = asked.settled(dataset.schema, "")
    return _open_table(_read_dataset(dataset, asked), asked, condition)


def _open_table(table: pa.Table, asked: Asked, condition: Condition | None) -> TableSource:
    asked = asked.settled(table.schema, "")
    table = with_messages(table) if MESSAGES in asked.further else table
    _check_columns(table, asked)
    kept = None if condition is None else rows_of_table_that_meet(condition, table)
    encoding = asked.encoding(
        lambda column: table.schema.field(column).type,
        lambda column: table.column(column).slice(0, _SAMPLE_ROWS).combine_chunks(),
    )
    return TableSource(table, asked.id, asked.embedding, kept, asked.id_option, asked.embedding_option, encoding)


def _check_columns(table: pa.Table, asked: Asked) -> None:
    for column, option in asked.further.items():
        find_column(table.schema, column, option, "")


def _open_files(
    paths: Sequence[str] | PoolPaths, asked: Asked, filesystem: pafs.FileSystem | None, condition: Condition | None
) -> ParquetSource:
    source = _source_of(build_manifest(paths, asked, filesystem), asked, filesystem)
    return source if condition is None else filtered(source, condition, filesystem)


def _source_of(manifest: Manifest, asked: Asked, filesystem: pafs.FileSystem | None) -> ParquetSource:
    asked = replace(asked, raw=asked.raw and replace(asked.raw, name=manifest.raw_column))
    rows = ParquetRows(manifest, filesystem)
    encoding = asked.encoding(lambda column: _type_of(rows, column), lambda column: _first_values(rows, column))
    if encoding is None:
        return ParquetSource(manifest, filesystem)
    manifest = replace(manifest, encoder=encoding.digest, dtype="float32", dim=encoding.dim)
    return ParquetSource(manifest, filesystem, encoding)


def _type_of(rows: ParquetRows, column: str) -> pa.DataType:
    return rows.take(np.empty(0, np.int64), [column]).schema.field(column).type


def _first_values(rows: ParquetRows, column: str) -> pa.Array:
    batches = rows.row_batches(0, min(_SAMPLE_ROWS, rows.num_rows), [column], BadRows())
    return pa.concat_arrays([batch.column(0) for _, batch in batches])


def _asked_paths(pool: PathInput | Sequence[PathInput] | PoolPaths) -> PoolPaths:
    return pool if isinstance(pool, PoolPaths) else PoolPaths(tuple(path_texts(pool)))


def path_texts(pool: PathInput | Sequence[PathInput]) -> list[str]:
    """Return paths as text; InputError for what is neither a path nor a list of them."""
    is_list = isinstance(pool, list | tuple)
    paths: list[Any] = list(pool) if isinstance(pool, list | tuple) else [pool]
    wrong = [type(path).__name__ for path in paths if not isinstance(path, str | os.PathLike)]
    if wrong:
        found = f"a list that holds {wrong[0]}" if is_list else f"of type {wrong[0]}"
        raise InputError(f"the pool is {found}; {_MAY_BE}")
    return [os.fspath(path) for path in paths]
