"""Rows in Parquet files: any range of them streamed, any rows fetched, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.io.filesystems import open_filesystem
from ray_itl.io.image_files import is_image_folder
from ray_itl.sources.bad_rows import BadRows, Notes, embeddings_or_nan, ids_or_blank
from ray_itl.sources.encoding import Encoding
from ray_itl.sources.files.images import image_paths
from ray_itl.sources.files.kinds import kind_of
from ray_itl.sources.files.opened import estimate_row_bytes
from ray_itl.sources.ids import IdKind, id_dtype
from ray_itl.sources.manifest import FileEntry, Manifest, Segment
from ray_itl.sources.planned_file import PlannedFile, open_planned
from ray_itl.sources.schema import WhichRow, check_positions, embedding_matrix, which_row
from ray_itl.sources.tables.lance import is_fragment
from ray_itl.sources.taking import take_rows

_MAX_TAKE_THREADS = 8
_SLIM_ROW_BYTES = 256  # 8,192 rows a batch


class ParquetRows:
    """Rows of a manifest's files in its order (see `RowSource`); pickles as the manifest, no open file.

    Rows of a file are known to be the planned ones once the iteration has gone beyond it, or has ended.

    Raises:
        InputError: in every method: a file is gone, damaged, or was replaced since the manifest was made (names it).
        StorageError: in every method: storage failed for the moment.
    """

    def __init__(self, manifest: Manifest, filesystem: pafs.FileSystem | None = None):
        """Read the manifest's files on `filesystem`; without one, on that which its `uri` names."""
        self.manifest = manifest
        self.num_rows: int = manifest.num_rows
        self.id_kind: IdKind = manifest.id_kind
        self._filesystem = filesystem or open_filesystem(manifest.uri)

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` for positions `start <= position < stop`, in order, of about 2 MiB each."""
        for ids, batch, _, _ in self._stream(start, stop, columns, None, bad):
            yield ids, batch

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions`, which ascend and are distinct.

        Reads of each row group that holds such a row what stands before its last one.
        """
        for ids, batch, _, _ in self._gather(positions, columns, bad):
            yield ids, batch

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions` (int64, any order, repeats allowed), in that order.

        Reads the columns asked for, of each row group that holds such a row, up to its last one; files are read a few
        at a time.

        Raises:
            InputError: a file lacks a column, or types cannot be unified.
        """
        if not columns:
            return pa.table({})
        tables, _, inverse = self._take_tables(positions, columns)
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(
                f"columns {', '.join(columns)} have types that differ between files ({error}); rewrite the "
                "files with one type, or leave the column out of columns"
            ) from error
        return take_rows(table, inverse)

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the file's path relative to the root, and the row within that file, of each position."""
        return self._locate(positions)

    def column_batches(self, start: int, stop: int, columns: Sequence[str], option: str) -> Iterator[pa.RecordBatch]:
        """Yield columns, which `option` names, without ids, of rows `start <= row < stop` of the files, in order."""
        for _, batch in self._stream_files(start, stop, columns, _SLIM_ROW_BYTES, option):
            yield batch

    def columns_of(self, file: str) -> list[str]:
        """Return all columns of a file but the embedding, those given by folders included."""
        with kind_of(self.manifest, file).open(self.manifest, self._filesystem, file) as opened:
            stored = opened.schema_arrow.names
        names = [name for name in dict.fromkeys(stored) if stored.count(name) == 1]
        given = [name for name in self.manifest.schema.folders.of(file) if name not in names]
        return [name for name in [*names, *given] if name != self.manifest.embedding_column]

    def metadata_of(self, file: str) -> dict[bytes, bytes]:
        """Return what the schema of a file says of itself, beside its columns."""
        with kind_of(self.manifest, file).open(self.manifest, self._filesystem, file) as opened:
            return dict(opened.schema_arrow.metadata or {})

    def cuts(self, start: int, stop: int) -> list[int]:
        """Return the positions between these two from which rows can be read without what stands before them."""
        if any(is_fragment(self.manifest, file.path) for file in self.manifest.files):
            return []
        segments = self.manifest.segments(start, stop)
        ends = itertools.accumulate((part.stop_row - part.first_row for part in segments), initial=start)
        return [end for end in ends if start < end < stop]

    def _locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        positions = check_positions(positions, self.manifest.num_rows)
        files = np.searchsorted(self.manifest.file_starts, positions, side="right") - 1
        names = [self.manifest.files[index].path for index in files]
        return names, positions - self.manifest.file_starts[files]

    def position(self, row: int) -> int | None:
        """Return the position of a row, counted through all files; None if the pool leaves it out."""
        return row

    def position_of(self, file: str, row: int) -> int | None:
        """Return the position of a row of a file, the way back from `locate`; None where the pool has no such row."""
        start, num_rows = self.manifest.places.get(file, (0, 0))
        return self.position(start + row) if 0 <= row < num_rows else None

    def only(self, files: Sequence[FileEntry]) -> Self:
        """Return the rows of some of the files (at least one, with rows), in the order given."""
        return type(self)(replace(self.manifest, files=tuple(files)), self._filesystem)

    def _stream(
        self, start: int, stop: int, columns: Sequence[str], row_bytes: int | None, bad: BadRows | None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch, WhichRow, Notes | None]]:
        """Yield ids, columns, the words for each row, and where to note bad ones.

        Without `row_bytes` a row has the size that footers tell.
        """
        names = self._with_id(columns)
        position = start
        for (file, row), batch in self._stream_files(start, stop, names, row_bytes, "columns"):
            which, notes = partial(_which, file, row), Notes.on(bad, position)
            yield self._ids(batch, position, which, notes), batch.select(list(columns)), which, notes
            position += batch.num_rows

    def _stream_files(
        self, start: int, stop: int, columns: Sequence[str], row_bytes: int | None, option: str
    ) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
        """Yield `((file, row in file), batch)` over rows of the files."""
        for _, group in groupby(self.manifest.segments(start, stop), key=lambda segment: segment.file.path):
            yield from self._stream_file(list(group), columns, row_bytes, option)

    def _stream_file(
        self, segments: list[Segment], columns: Sequence[str], row_bytes: int | None, option: str
    ) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
        """Yield `((file, row in file), batch)` over adjacent segments of one file."""
        file = segments[0].file
        groups = [segment.row_group for segment in segments]
        before = sum(file.row_groups[: groups[0]])
        first = segments[0].first_row
        stop = first + sum(segment.stop_row - segment.first_row for segment in segments)
        with self._open(file, columns, option) as opened:
            row_bytes = row_bytes or estimate_row_bytes(opened.file.metadata, groups[0])
            for offset, batch in opened.stream(groups, first, stop, row_bytes):
                yield (file.path, before + offset), batch

    def _gather(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch, WhichRow, Notes | None]]:
        """Yield what `_stream` does, of the rows at ascending positions."""
        positions = check_positions(positions, self.manifest.num_rows)
        names = self._with_id(columns)
        for index, piece in self._by_file(positions):
            file, base = self.manifest.files[index], self.manifest.file_starts[index]
            with self._open(file, names) as opened:
                for rows, batch in opened.pick(file, piece - base):
                    which, notes = partial(_which_of, file.path, rows), Notes.on(bad, base + rows)
                    ids = self._ids(batch, base + rows, which, notes)
                    yield ids, batch.select(list(columns)), which, notes

    def _with_id(self, columns: Sequence[str]) -> list[str]:
        own = [self.manifest.id_column] if self.manifest.id_column else []
        return list(dict.fromkeys([*columns, *own]))

    def _by_file(self, positions: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Return the number of each file that holds one of the ascending positions, with those it holds."""
        owner = np.searchsorted(self.manifest.file_starts, positions, side="right") - 1
        files, begins = np.unique(owner, return_index=True)
        return list(zip(files.tolist(), np.split(positions, begins[1:]), strict=True)) if positions.size else []

    def _ids(
        self, batch: pa.RecordBatch, positions: int | np.ndarray, which: WhichRow, notes: Notes | None
    ) -> np.ndarray:
        """Return a batch's ids; `positions` are those of its rows, or of the first where they are adjacent."""
        column = self.manifest.id_column
        if column:
            return ids_or_blank(batch.column(column), column, self.id_kind, which, notes)
        rows = np.arange(positions, positions + batch.num_rows) if isinstance(positions, int) else positions
        return self._names_of(rows) if self.id_kind == "string" else rows

    def _names_of(self, positions: np.ndarray) -> np.ndarray:
        """Return "file:row" of rows of one file, of images their paths: they stay as long as those and places do."""
        if not len(positions):
            return np.empty(0, dtype=id_dtype("string"))
        index = int(np.searchsorted(self.manifest.file_starts, positions[0], side="right")) - 1
        file, rows = self.manifest.files[index].path, positions - self.manifest.file_starts[index]
        if is_image_folder(file):
            return np.array(image_paths(self.manifest, file, rows), dtype=id_dtype("string"))
        name = np.array(f"{file}:", dtype=id_dtype("string"))
        return np.strings.add(name, rows.astype(id_dtype("string")))

    def _take_tables(
        self, positions: np.ndarray, columns: Sequence[str]
    ) -> tuple[list[pa.Table], np.ndarray, np.ndarray]:
        """Return a table for each file that holds a position; the sorted distinct positions; the way back.

        The tables hold the distinct positions in order, and `distinct[way_back]` is `positions`.
        """
        unique, inverse = np.unique(check_positions(positions, self.manifest.num_rows), return_inverse=True)
        # With nothing asked for, the first file still tells the types of the empty table.
        parts = self._by_file(unique) or [(0, unique)]
        with ThreadPoolExecutor(_MAX_TAKE_THREADS) as threads:
            tables = list(threads.map(lambda part: self._take_rows(part[0], part[1], columns), parts))
        return tables, unique, inverse

    def _take_rows(self, index: int, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows of one file at sorted distinct global `positions`."""
        file = self.manifest.files[index]
        rows = positions - self.manifest.file_starts[index]
        with self._open(file, columns) as opened:
            batches = [batch for _, batch in opened.pick(file, rows)]
        return pa.Table.from_batches(batches, opened.columns.schema)

    @property
    def filesystem(self) -> pafs.FileSystem:
        """Where the files are."""
        return self._filesystem

    def _open(
        self, file: FileEntry, columns: Sequence[str], option: str = "columns"
    ) -> AbstractContextManager[PlannedFile]:
        return open_planned(self.manifest, self._filesystem, file, columns, option)


class ParquetSource(ParquetRows):
    """Rows with an embedding column, or with one that is embedded while it is read (see `PoolSource`)."""

    def __init__(self, manifest: Manifest, filesystem: pafs.FileSystem | None = None, encoding: Encoding | None = None):
        """Read the manifest's files on `filesystem`; without one, on that which its `uri` names.

        `encoding` embeds the manifest's raw column, if it has one.
        """
        super().__init__(manifest, filesystem)
        self.encoding = encoding
        self.dim: int = manifest.dim
        self.dtype: np.dtype = np.dtype(manifest.dtype)

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` for positions `start <= position < stop`, in order.

        A range that begins inside a row group costs decoding that row group from its start. Peak extra
        memory is under 48 MiB for a row group of any size whose pages are of ordinary size (1 MiB);
        measured 34 to 38 MiB over 400 MiB of rows in one row group, 20 MiB of it library code.
        """
        if self.encoding is not None:
            yield from self.encoding.embedded(
                stop - start, lambda a, b, columns: self._stream(start + a, start + b, columns, None, bad)
            )
            return
        column = self.manifest.embedding_column
        for ids, batch, which, notes in self._stream(start, stop, [column], self.dim * self.dtype.itemsize, bad):
            rows = embeddings_or_nan(batch.column(0), self.dim, column, which, self.dtype, ids, notes)
            yield ids, rows.astype(self.dtype, copy=False)  # the widest type of all files

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        if self.encoding is not None:
            yield from self.encoding.embedded(
                len(positions), lambda a, b, columns: self._gather(positions[a:b], columns, bad)
            )
            return
        column = self.manifest.embedding_column
        for ids, batch, which, notes in self._gather(positions, [column], bad):
            rows = embeddings_or_nan(batch.column(0), self.dim, column, which, self.dtype, ids, notes)
            yield ids, rows.astype(self.dtype, copy=False)  # the widest type of all files

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        if self.encoding is not None:
            unique, inverse = np.unique(check_positions(positions, self.manifest.num_rows), return_inverse=True)
            found = [rows.astype(np.float64) for _, rows in ParquetSource.batches_at(self, unique)]
            return np.concatenate([np.empty((0, self.dim)), *found])[inverse]
        tables, unique, inverse = self._take_tables(positions, [self.manifest.embedding_column])
        # Arrow would not join lists of fixed and of free length, which one pool may hold side by side.
        chunks = [chunk for table in tables for chunk in table.column(0).chunks]
        files, rows = self._locate(unique)
        matrix = embedding_matrix(
            chunks, self.dim, self.manifest.embedding_column, lambda i: which_row(files[i], int(rows[i]))
        )
        return matrix[inverse]

    def only(self, files: Sequence[FileEntry]) -> Self:
        """Return the rows of some of the files (at least one, with rows), in the order given."""
        return type(self)(replace(self.manifest, files=tuple(files)), self._filesystem, self.encoding)

    def cuts(self, start: int, stop: int) -> list[int]:
        """See `ParquetRows.cuts`; none where rows are embedded, which keeps all cores busy by itself."""
        return [] if self.encoding is not None else super().cuts(start, stop)


def names_rows(source: object) -> bool:
    """Whether rows of a source have no ids of their own, but are named by their files and numbers."""
    return isinstance(source, ParquetRows) and not source.manifest.id_column


def _which(file: str, first_row: int, row: int) -> str:
    return which_row(file, first_row + row)


def _which_of(file: str, rows: np.ndarray, row: int) -> str:
    return which_row(file, int(rows[row]))
