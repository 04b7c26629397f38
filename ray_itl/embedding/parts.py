"""Embeddings on disk: a pool cut into parts, each a Parquet file that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.embedding.settings import EMBEDDING, ID
from ray_itl.embedding.source import EmbeddedBatch, EmbeddedSource
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.io.atomic import TEMPORARY_SUFFIX, write_atomic
from ray_itl.sources.ids import ids_to_arrow
from ray_itl.sources.manifest import ShardRange
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.schema import which_row

_ROW_GROUP_BYTES = 16 << 20


@dataclass(frozen=True)
class EmbeddingParts:
    """The parts of a pool's embeddings; part k holds rows k * part_rows and on, whoever writes it and when.

    Pickles as small as the source.
    """

    source: EmbeddedSource
    columns: tuple[str, ...]
    """Columns to carry along."""
    dtype: str
    """Storage of embeddings, one of DTYPES."""
    part_rows: int
    """Rows of a part; the last may have fewer."""
    folder: str
    """An existing folder that every writer can reach."""

    @property
    def num_parts(self) -> int:
        """How many parts there are."""
        return -(-self.source.num_rows // self.part_rows)

    def rows(self, part: int) -> ShardRange:
        """Return the rows of a part."""
        first = part * self.part_rows
        return ShardRange(part, first, min(first + self.part_rows, self.source.num_rows))

    def path(self, part: int) -> Path:
        """Return where a part is; the order of names is that of rows."""
        return Path(self.folder) / f"part-{part:08d}.parquet"

    def missing(self) -> list[int]:
        """Return the parts that are not written yet."""
        there = {path.name for path in Path(self.folder).glob("part-*.parquet")}
        return [part for part in range(self.num_parts) if self.path(part).name not in there]

    def write(self, part: int) -> int:
        """Embed and write a part: columns id, embedding (fixed-size lists) and the carried ones; returns its rows.

        Memory: some 16 MiB of embeddings, one batch, and the model.

        Raises:
            InputError: a row that cannot be read or embedded, or whose embedding overflows the dtype.
            RunDirectoryError: the file cannot be written.
        """
        write_atomic(self.path(part), lambda file: self._write_to(file, part))
        _, start, stop = self.rows(part)
        return stop - start

    def tidy(self) -> None:
        """Remove what writers that were killed left behind; only while nobody writes."""
        for leftover in Path(self.folder).glob(f".part-*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)

    def check(self) -> None:
        """Read the ids of every part and compare them with the pool's: all there, each in its place, no others.

        O(rows) time, one part's ids in memory.

        Raises:
            RunDirectoryError: a part that is missing, damaged, or holds other rows (says which and the remedy).
        """
        for part in range(self.num_parts):
            path = self.path(part)
            _, start, stop = self.rows(part)
            expected = _ids(self.source.base.row_batches(start, stop, []))
            try:
                rows = open_raw_rows(path, id_column=ID)
                found = _ids(rows.row_batches(0, rows.num_rows, []))
            except InputError as error:
                raise RunDirectoryError(f"{error}: remove {path}, and the same command makes it again") from error
            if len(found) != len(expected) or not np.array_equal(found, expected):
                raise RunDirectoryError(
                    f"{path} holds {len(found)} rows, but not the {len(expected)} of the pool from row {start} on: "
                    "remove it, and the same command makes it again"
                )

    def _write_to(self, file: BinaryIO, part: int) -> None:
        _, start, stop = self.rows(part)
        writer: pq.ParquetWriter | None = None
        held: list[pa.Table] = []
        row_group = max(1, _ROW_GROUP_BYTES // (self.source.dim * 4))
        try:
            for batch in self.source.embed_batches(start, stop, self.columns):
                held.append(self._table(batch))
                if sum(table.num_rows for table in held) >= row_group or batch.start + len(batch.ids) == stop:
                    table = _join(held)
                    writer = writer or pq.ParquetWriter(file, table.schema, use_dictionary=False)  # floats never repeat
                    writer.write_table(table.cast(writer.schema))
                    held = []
        finally:
            if writer is not None:
                writer.close()

    def _table(self, batch: EmbeddedBatch) -> pa.Table:
        with np.errstate(over="ignore"):  # reported below
            rows = batch.embeddings.astype(self.dtype)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            position = batch.start + int(np.argmin(finite))
            files, numbers = self.source.locate(np.array([position]))
            raise InputError(
                f"{which_row(files[0], int(numbers[0]))}: its embedding is too large for {self.dtype}: set "
                "output.dtype=float32, or embedding.unit_norm=true"
            )
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), self.source.dim)
        carried = dict(zip(self.columns, batch.columns.columns, strict=True))
        return pa.table({ID: ids_to_arrow(batch.ids), EMBEDDING: embedding, **carried})


def _join(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive")


def _ids(batches: Iterator[tuple[np.ndarray, pa.RecordBatch]]) -> np.ndarray:
    found = [ids for ids, _ in batches]
    return np.concatenate(found) if found else np.empty(0, np.int64)
