"""The rows of a pool that meet a condition: found by reading the columns that it looks at, and no embedding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from ray_itl.errors import ConfigError, InputError
from ray_itl.io.condition import Condition
from ray_itl.io.parquet import ParquetRows
from ray_itl.io.row_mask import RowMask
from ray_itl.io.schema import find_column

_MAX_THREADS = 8


def rows_that_meet(condition: Condition, rows: ParquetRows) -> RowMask:
    """Return which rows of Parquet files meet a condition. Reads the columns that it looks at, a few files at a time.

    Raises:
        ConfigError: the condition does not fit the columns (names the file).
        InputError: no row meets it, or a file cannot be read or lacks a column.
    """
    manifest = rows.manifest
    starts = manifest.file_starts.tolist()

    def of_file(index: int) -> RowMask:
        batches = rows.column_batches(starts[index], starts[index + 1], condition.columns, "pool.filter")
        return RowMask.of(_met(condition, batches, manifest.files[index].path))

    with ThreadPoolExecutor(_MAX_THREADS) as threads:
        masks = list(threads.map(of_file, range(len(manifest.files))))
    mask = RowMask.of(piece for each in masks for piece in each.pieces(0, each.num_rows))
    _check_any(condition, mask)
    return mask


def rows_of_table_that_meet(condition: Condition, table: pa.Table) -> RowMask:
    """Return which rows of a table meet a condition; errors as of `rows_that_meet`."""
    for column in condition.columns:
        find_column(table.schema, column, "pool.filter", "")
    mask = RowMask.of(_met(condition, table.select(list(condition.columns)).to_batches(), ""))
    _check_any(condition, mask)
    return mask


def _met(condition: Condition, batches: Iterable[pa.RecordBatch], file: str) -> Iterator[np.ndarray]:
    """Yield for each batch which of its rows meet the condition, as bool."""
    for batch in batches:
        arrays = [_plain(batch.column(name)) for name in condition.columns]
        rows = pads.dataset(pa.table(arrays, names=list(condition.columns)))
        try:
            kept = rows.to_table(columns={"kept": condition.expression}, use_threads=False).column("kept")
        except pa.ArrowException as error:
            raise _unfit(condition, file, " ".join(str(error).split())) from error
        if not pa.types.is_boolean(kept.type):
            raise _unfit(condition, file, f"it is of type {kept.type}, not true or false")
        yield kept.fill_null(False).to_numpy()


def _plain(column: pa.Array) -> pa.Array:
    """Return a column without its dictionary, which few of Arrow's functions take."""
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _unfit(condition: Condition, file: str, why: str) -> ConfigError:
    where = f" does not fit the columns of file {file!r}" if file else " does not fit the columns of the pool"
    kinds = "compare text with 'text', numbers with numbers, and times with date '2026-01-31'"
    return ConfigError(f"pool.filter={condition.text}{where}: {why}; {kinds}")


def _check_any(condition: Condition, mask: RowMask) -> None:
    if not mask.count:
        raise InputError(f"pool.filter={condition.text}: none of the pool's {mask.num_rows:,} rows meets it; widen it")
