"""Some of the rows of a source as a source of their own: those that meet a condition, or those at given positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows, noted
from ray_itl.sources.base import PoolSource, RowSource
from ray_itl.sources.condition import Condition, RowMask, check_any, rows_that_meet
from ray_itl.sources.encoding import Encoding
from ray_itl.sources.ids import IdKind
from ray_itl.sources.manifest import FileEntry, Manifest, check_range
from ray_itl.sources.parquet import ParquetSource
from ray_itl.sources.schema import check_positions


class FilteredSource(ParquetSource):
    """The kept rows of a manifest's files (see `PoolSource`): positions number them alone.

    Of a row group that holds no kept row nothing is read but the columns that the condition looks at. Pickles as the
    manifest and one bit a row. Reading needs 8 bytes more for each kept row of the file at hand.
    """

    def __init__(
        self,
        manifest: Manifest,
        filesystem: pafs.FileSystem | None,
        kept: RowMask,
        encoding: Encoding | None = None,
    ):
        """Take the files, where they are (None: where the manifest's `uri` says), and which of their rows to keep."""
        super().__init__(manifest, filesystem, encoding)
        self.num_rows = kept.count
        self._kept = kept

    @property
    def kept(self) -> RowMask:
        """Which rows of the files there are."""
        return self._kept

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` for positions `start <= position < stop`, in order."""
        with noted(bad, self._kept.number) as found:
            for rows in self._by_files(start, stop):
                yield from super().row_batches_at(rows, columns, found)

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions`, which ascend and are distinct."""
        with noted(bad, self._kept.number) as found:
            yield from super().row_batches_at(self._rows(positions), columns, found)

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` for positions `start <= position < stop`, in order."""
        with noted(bad, self._kept.number) as found:
            # Rows that are embedded are better looked up together than file by file.
            together = [self._kept.rows_between(start, stop)] if self.encoding else self._by_files(start, stop)
            for rows in together:
                yield from super().batches_at(rows, found)

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        with noted(bad, self._kept.number) as found:
            yield from super().batches_at(self._rows(positions), found)

    def cuts(self, start: int, stop: int) -> list[int]:
        """Return the positions between these two at which a file begins; see `ParquetSource.cuts`."""
        begins = [] if self.encoding is not None else dict.fromkeys(self._file_numbers)
        return [number for number in begins if start < number < stop]

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions`, in that order (see `ParquetRows.take`)."""
        return super().take(self._rows(positions), columns)

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        return super().embeddings(self._rows(positions))

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the file's path relative to the root, and the row within that file, of each position."""
        return super().locate(self._rows(positions))

    def position(self, row: int) -> int | None:
        """Return the position of a row, counted through all files; None if the pool leaves it out."""
        return self._kept.number(row) if self._kept.slice(row, row + 1).any() else None

    def only(self, files: Sequence[FileEntry]) -> Self:
        """Return the rows of some of the files, in the order given; there may be none."""
        paths = [file.path for file in self.manifest.files]
        starts = dict(zip(paths, self.manifest.file_starts.tolist(), strict=False))
        pieces = (
            piece for file in files for piece in self._kept.pieces(starts[file.path], starts[file.path] + file.num_rows)
        )
        manifest = replace(self.manifest, files=tuple(files))
        return type(self)(manifest, self._filesystem, RowMask.of(pieces), self.encoding)

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        return self._kept.rows(check_positions(positions, self.num_rows))

    @cached_property
    def _file_numbers(self) -> list[int]:
        """How many kept rows stand before each file, then all of them."""
        return [self._kept.number(first) for first in self.manifest.file_starts.tolist()]

    def _by_files(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the kept rows of each file, so that a row group is decoded once."""
        for first, last in pairwise(self._file_numbers):
            rows = self._kept.rows_between(max(start, first), max(start, first, min(stop, last)))
            if len(rows):
                yield rows


def filtered(source: ParquetSource, condition: Condition, filesystem: pafs.FileSystem | None) -> ParquetSource:
    """Return those rows of some files that meet a condition; errors as of `rows_that_meet`."""
    kept = rows_that_meet(condition, source)
    manifest = replace(source.manifest, filter=condition.text)
    if kept.is_full:
        return ParquetSource(manifest, filesystem, source.encoding)
    return FilteredSource(manifest, filesystem, kept, source.encoding)


def narrowed(source: ParquetSource, condition: Condition, filesystem: pafs.FileSystem | None = None) -> FilteredSource:
    """Return those rows of a source that meet one more condition; errors as of `rows_that_meet`."""
    first = source.kept if isinstance(source, FilteredSource) else None
    met = rows_that_meet(condition, ParquetSource(source.manifest, filesystem))
    text = condition.text
    if first is not None:
        text = f"({source.manifest.filter}) and ({text})"
        both = zip(first.pieces(0, first.num_rows), met.pieces(0, met.num_rows), strict=True)
        met = RowMask.of(own & other for own, other in both)
        check_any(replace(condition, text=text), met)
    return FilteredSource(replace(source.manifest, filter=text), filesystem, met, source.encoding)


class _Subset:
    """What rows and embedded rows share."""

    def __init__(self, base: RowSource | PoolSource, positions: np.ndarray) -> None:
        """Take positions in any order; they are sorted, and one listed twice counts once.

        Raises:
            IndexError: a position that the base does not have.
            InputError: no position at all.
        """
        self.positions = np.unique(check_positions(positions, base.num_rows))
        if not self.positions.size:
            raise InputError("no row is left to choose from: name at least one position, or use a larger pool")
        self.num_rows: int = len(self.positions)
        self.id_kind: IdKind = base.id_kind
        self._rows = base

    def base_positions(self, positions: np.ndarray) -> np.ndarray:
        """Return the base's positions of rows at positions here."""
        return self.positions[check_positions(positions, self.num_rows)]

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions`, in that order."""
        return self._rows.take(self.base_positions(positions), columns)

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the file of each position and its row in that file, as the base does."""
        return self._rows.locate(self.base_positions(positions))

    def _number(self, position: int) -> int:
        """Return the position here of a row of the base."""
        return int(np.searchsorted(self.positions, position))


class SubsetRows(_Subset):
    """Those rows of a base that stand at `positions` (see `RowSource`).

    Position p here is position `positions[p]` of the base; `base_positions` maps back. Files, rows and ids are the
    base's. Pickles as the base and 8 bytes a row.
    """

    def __init__(self, base: RowSource, positions: np.ndarray) -> None:
        """Take positions in any order, each once.

        Raises:
            IndexError: a position that the base does not have.
            InputError: no position at all.
        """
        super().__init__(base, positions)
        self._base = base

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        with noted(bad, self._number) as found:
            yield from self._base.row_batches_at(self.positions[start:stop], columns, found)

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions`, which ascend and are distinct."""
        with noted(bad, self._number) as found:
            yield from self._base.row_batches_at(self.base_positions(positions), columns, found)


class SubsetSource(_Subset):
    """Those rows of an embedded base that stand at `positions` (see `PoolSource`); otherwise as `SubsetRows`.

    Embeddings are the base's, bit for bit; reading some costs what `batches_at` of the base costs.
    """

    def __init__(self, base: PoolSource, positions: np.ndarray) -> None:
        """Take positions in any order, each once.

        Raises:
            IndexError: a position that the base does not have.
            InputError: no position at all.
        """
        super().__init__(base, positions)
        self.dim: int = base.dim
        self.dtype: np.dtype = base.dtype
        self._base = base

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        with noted(bad, self._number) as found:
            yield from self._base.batches_at(self.positions[start:stop], found)

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        with noted(bad, self._number) as found:
            yield from self._base.batches_at(self.base_positions(positions), found)

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        return self._base.embeddings(self.base_positions(positions))
