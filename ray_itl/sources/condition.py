"""The rows of a pool that meet a condition, as one bit a row.

They are found by reading the columns that the condition looks at, and no embedding. `RowMask` leads from kept rows to
all rows and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.constants import UnfitError
from ray_itl.sources.manifest import check_range
from ray_itl.sources.parquet import ParquetRows
from ray_itl.sources.schema import find_column

_BLOCK = 1 << 12  # rows whose bits are unpacked together; the table of counts has an entry for each
_PIECE = 1 << 20
_MAX_THREADS = 8


class RowMask:
    """Kept rows among N, numbered in order: kept row 0, 1, ... stands at an ascending position among all rows.

    Memory: N / 8 bytes, plus 8 for each 4,096 rows. Looking up k rows takes O(k log N) and at most k blocks.
    """

    def __init__(self, bits: np.ndarray, num_rows: int):
        """Take the bits of rows 0, 1, ... as `numpy.packbits` packs them; those after the last row are 0."""
        self._bits = bits
        self.num_rows = num_rows
        padded = np.zeros(-(-num_rows // _BLOCK) * (_BLOCK // 8), dtype=np.uint8)
        padded[: len(bits)] = bits
        counts = np.bitwise_count(padded).reshape(-1, _BLOCK // 8).sum(axis=1, dtype=np.int64)
        self._before = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @classmethod
    def of(cls, pieces: Iterable[np.ndarray]) -> RowMask:
        """Return the mask of rows given in order, as pieces (bool) of any length."""
        packed, rest, num_rows = [], np.empty(0, dtype=bool), 0
        for piece in pieces:
            num_rows += len(piece)
            rest = np.concatenate([rest, piece])
            whole = len(rest) // 8 * 8
            packed.append(np.packbits(rest[:whole]))
            rest = rest[whole:]
        packed.append(np.packbits(rest))
        return cls(np.concatenate(packed), num_rows)

    @property
    def count(self) -> int:
        """Number of kept rows."""
        return int(self._before[-1])

    def number(self, row: int) -> int:
        """Return how many kept rows stand before a row: its own number, if it is kept."""
        block = row // _BLOCK
        return int(self._before[block]) + int(np.count_nonzero(self.slice(block * _BLOCK, row)))

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Return whether each of the rows `start <= row < stop` is kept, as bool."""
        first = start // 8
        bits = np.unpackbits(self._bits[first : -(-stop // 8)])
        return bits[start - first * 8 : stop - first * 8].astype(bool)

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield `slice(start, stop)` in pieces of at most 1 MiB."""
        for first in range(start, stop, _PIECE):
            yield self.slice(first, min(stop, first + _PIECE))

    def rows_between(self, start: int, stop: int) -> np.ndarray:
        """Return the rows (int64, ascending) that kept rows number `start <= number < stop` are."""
        check_range(start, stop, self.count)
        if start == stop:
            return np.empty(0, dtype=np.int64)
        first, last = np.searchsorted(self._before, [start, stop - 1], side="right") - 1
        rows = first * _BLOCK + np.flatnonzero(self.slice(first * _BLOCK, min(self.num_rows, (last + 1) * _BLOCK)))
        return rows[start - self._before[first] : stop - self._before[first]]

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return the rows (int64) that kept rows of these numbers are, in the order given."""
        rows = np.empty(len(numbers), dtype=np.int64)
        blocks = np.searchsorted(self._before, numbers, side="right") - 1
        order = np.argsort(blocks, kind="stable")
        found, begins = np.unique(blocks[order], return_index=True)
        for block, places in zip(found.tolist(), np.split(order, begins[1:]), strict=False):
            start, stop = int(self._before[block]), int(self._before[block + 1])
            rows[places] = self.rows_between(start, stop)[numbers[places] - start]
        return rows

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return the numbers (int64) of kept rows, in the order given: the inverse of `rows`."""
        numbers = np.empty(len(rows), dtype=np.int64)
        blocks = rows // _BLOCK
        order = np.argsort(blocks, kind="stable")
        found, begins = np.unique(blocks[order], return_index=True)
        for block, places in zip(found.tolist(), np.split(order, begins[1:]), strict=False):
            first = block * _BLOCK
            before = np.cumsum(self.slice(first, min(self.num_rows, first + _BLOCK)))
            numbers[places] = self._before[block] + before[rows[places] - first] - 1
        return numbers

    def within(self, other: RowMask) -> RowMask:
        """Return the mask of these rows among those of another, which keeps all of them."""
        return RowMask.of(
            own[theirs]
            for own, theirs in zip(self.pieces(0, self.num_rows), other.pieces(0, self.num_rows), strict=True)
        )

    @property
    def is_full(self) -> bool:
        """Whether every row is kept."""
        return self.count == self.num_rows


Columns = Mapping[str, pa.Array]
"""Columns by name, of some rows."""


@dataclass(frozen=True)
class Condition:
    """A condition on the columns of a row. A row meets it if it is true there, so not where it is null."""

    text: str
    truth: Callable[[Columns], pa.Array | pa.Scalar]
    """Where it is true, false or null, given some rows of its columns."""
    columns: tuple[str, ...]
    """The columns that it reads, each once."""


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
    check_any(condition, mask)
    return mask


def rows_of_table_that_meet(condition: Condition, table: pa.Table) -> RowMask:
    """Return which rows of a table meet a condition; errors as of `rows_that_meet`."""
    for column in condition.columns:
        find_column(table.schema, column, "pool.filter", "")
    mask = RowMask.of(_met(condition, table.select(list(condition.columns)).to_batches(), ""))
    check_any(condition, mask)
    return mask


def _met(condition: Condition, batches: Iterable[pa.RecordBatch], file: str) -> Iterator[np.ndarray]:
    """Yield for each batch which of its rows meet the condition, as bool."""
    for batch in batches:
        columns = {name: batch.column(name) for name in condition.columns}
        try:
            kept = condition.truth(columns)
        except UnfitError as error:
            raise _unfit(condition, file, str(error), error.remedy) from error
        except (pa.ArrowException, ArithmeticError) as error:
            remedy = "compare text with 'text', numbers with numbers, and times with date '2026-01-31'"
            raise _unfit(condition, file, " ".join(str(error).split()), remedy) from error
        except RecursionError as error:
            raise ConfigError(f"pool.filter={condition.text[:80]}... is too long: write it with fewer parts") from error
        if isinstance(kept, pa.Scalar):
            yield np.full(batch.num_rows, bool(kept.as_py()))
        else:
            yield kept.fill_null(False).to_numpy(zero_copy_only=False)


def _unfit(condition: Condition, file: str, why: str, remedy: str) -> ConfigError:
    where = f" does not fit the columns of file {file!r}" if file else " does not fit the columns of the pool"
    return ConfigError(f"pool.filter={condition.text}{where}: {why}; {remedy}")


def check_any(condition: Condition, mask: RowMask) -> None:
    """Raise InputError where no row meets a condition."""
    if not mask.count:
        raise InputError(f"pool.filter={condition.text}: none of the pool's {mask.num_rows:,} rows meets it; widen it")
