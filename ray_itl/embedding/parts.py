"""Embeddings on disk: a pool cut into parts, each a Parquet file that is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.embedding.encoder import OnRows, unheard
from ray_itl.embedding.layout import Part, contents, parts_of_files, parts_of_rows
from ray_itl.embedding.settings import EMBEDDING, ID
from ray_itl.embedding.source import EmbeddedBatch, EmbeddedSource
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.io.atomic import TEMPORARY_SUFFIX, write_atomic
from ray_itl.sources.bad_rows import REMEDY, BadRow, BadRows, Notes
from ray_itl.sources.ids import ids_to_arrow
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.parquet import ParquetRows

_ROW_GROUP_BYTES = 16 << 20
_ASIDE = ".aside-"
"""Begins the name of a part, which says what is in it, while the pool that parts are made of changes."""


_SKIPPED = b"ray_itl.skipped"
"""Key in a part's metadata: position in the part's rows, id and reason of every bad row, as JSON."""


@dataclass(frozen=True)
class EmbeddingParts:
    """The parts of a pool's embeddings: what is in one depends on its rows alone, whoever writes it and when.

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
    by_file: bool = False
    """Whether parts end where files do (see `layout`)."""
    skips: bool = False
    """Whether bad rows are left out; otherwise a part that has some is not written."""

    @cached_property
    def all(self) -> tuple[Part, ...]:
        """All parts, in the order of their rows; the place of one is its number."""
        if self.by_file:
            return tuple(parts_of_files(self.manifest, self.part_rows))
        return tuple(parts_of_rows(self.source.num_rows, self.part_rows))

    @property
    def num_parts(self) -> int:
        """How many parts there are."""
        return len(self.all)

    @property
    def manifest(self) -> Manifest:
        """The pool's."""
        assert isinstance(self.source.base, ParquetRows)
        return self.source.base.manifest

    def path(self, part: int) -> Path:
        """Return where a part is; the order of names is that of rows."""
        return Path(self.folder) / f"part-{part:08d}.parquet"

    def missing(self) -> list[int]:
        """Return the parts that are not written yet."""
        there = {path.name for path in Path(self.folder).glob("part-*.parquet")}
        return [part for part in range(self.num_parts) if self.path(part).name not in there]

    def write(self, part: int, on_rows: OnRows = unheard) -> int:
        """Embed and write a part: columns id, embedding (fixed-size lists) and the carried ones; returns its rows.

        Of `on_rows` see `Encoder.embed`. Memory: some 16 MiB of embeddings, two windows, and the model.

        Raises:
            BadRowsError: rows that cannot be embedded, or whose embedding overflows the dtype, unless they are skipped.
            InputError: files that cannot be read.
            RunDirectoryError: the file cannot be written.
        """
        write_atomic(self.path(part), lambda file: self._write_to(file, part, on_rows))
        return self.all[part].num_rows

    def skipped(self, part: int) -> BadRows:
        """Return the rows that a written part left out, by position in the pool.

        Raises:
            RunDirectoryError: the part is damaged.
        """
        try:
            told = (pq.read_metadata(self.path(part)).metadata or {}).get(_SKIPPED, b"[]")
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(part, error) from error
        return self._in_pool(part, BadRows([BadRow(*row) for row in json.loads(told)]))

    def put_aside(self, before: Manifest) -> int:
        """Set aside the parts that another state of the pool has in common with this one, and delete the others.

        Returns how many are set aside. After a crash at any moment the same call does the rest.
        """
        folder, present = Path(self.folder), contents(self.manifest, self.part_rows)
        for name, number in contents(before, self.part_rows).items():
            if name in present and self.path(number).exists():
                self.path(number).rename(folder / f"{_ASIDE}{name}")
        for path in folder.glob("part-*.parquet"):
            path.unlink()
        return sum(path.name.removeprefix(_ASIDE) in present for path in folder.glob(f"{_ASIDE}*"))

    def put_back(self) -> None:
        """Give the parts that were set aside the numbers that they have in the present state of the pool."""
        aside = list(Path(self.folder).glob(f"{_ASIDE}*"))
        present = contents(self.manifest, self.part_rows) if aside else {}
        for path in aside:
            number = present.get(path.name.removeprefix(_ASIDE))
            if number is None:
                path.unlink()
            else:
                path.rename(self.path(number))

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
            path, bad = self.path(part), self.skipped(part)
            source, first, stop = self._rows_of(part)
            expected = _ids(source.base.row_batches(first, stop, [], BadRows()))
            offset = self._offset(part) + first
            expected = np.delete(expected, bad.positions - offset) if len(bad) else expected
            try:
                found = _ids_in(path, expected.dtype)
            except (InputError, OSError, pa.ArrowException) as error:
                raise self._damaged(part, error) from error
            if len(found) != len(expected) or not np.array_equal(found, expected):
                raise RunDirectoryError(
                    f"{path} holds {len(found)} rows, but not the {len(expected)} of the pool from row {offset} on: "
                    "remove it, and the same command makes it again"
                )

    def _damaged(self, part: int, error: Exception) -> RunDirectoryError:
        path, reason = self.path(part), " ".join(str(error).split())
        return RunDirectoryError(f"{path} cannot be read ({reason}): remove it, and the same command makes it again")

    def _rows_of(self, part: int) -> tuple[EmbeddedSource, int, int]:
        """Return a source, and which of its rows a part holds."""
        cut = self.all[part]
        if cut.file is None:
            return self.source, cut.start, cut.stop
        base = self.source.base
        assert isinstance(base, ParquetRows)
        rows = base.only([self.manifest.files[cut.file]])
        return EmbeddedSource(rows, self.source.raw_column, self.source.embedder), cut.start, cut.stop

    def _offset(self, part: int) -> int:
        """Return where in the pool the rows stand that a part's are counted from."""
        file = self.all[part].file
        return 0 if file is None else int(self.manifest.file_starts[file])

    def _in_pool(self, part: int, bad: BadRows) -> BadRows:
        found, offset = BadRows(), self._offset(part)
        found.extend(bad, lambda position: position + offset)
        return found

    def _write_to(self, file: BinaryIO, part: int, on_rows: OnRows) -> None:
        source, start, stop = self._rows_of(part)
        writer: pq.ParquetWriter | None = None
        held: list[pa.Table] = []
        row_group = max(1, _ROW_GROUP_BYTES // (source.dim * 4))
        bad = BadRows()
        try:
            for batch in source.embed_batches(start, stop, self.columns, bad, on_rows):
                held.append(self._table(batch, bad))
                if sum(table.num_rows for table in held) >= row_group or batch.start + len(batch.ids) == stop:
                    table = _join(held)
                    writer = writer or pq.ParquetWriter(file, table.schema, use_dictionary=False)  # floats never repeat
                    writer.write_table(table.cast(writer.schema))
                    held = []
            if len(bad) and not self.skips:
                raise self._in_pool(part, bad).refusal(self.source.locate, REMEDY)
            if len(bad) and writer is not None:
                writer.add_key_value_metadata({_SKIPPED.decode(): json.dumps(list(bad))})
        finally:
            if writer is not None:
                writer.close()

    def _table(self, batch: EmbeddedBatch, bad: BadRows) -> pa.Table:
        """Return the rows of a batch that can be used; those beyond the dtype join the bad ones."""
        with np.errstate(over="ignore"):
            rows = batch.embeddings.astype(self.dtype)
        beyond = np.flatnonzero(np.isinf(rows).any(axis=1))
        problem = f"its embedding is too large for {self.dtype}; set output.dtype=float32, or embedding.unit_norm=true"
        Notes(bad, batch.start).add_all(dict.fromkeys(beyond.tolist(), problem), batch.ids)
        sound = np.isfinite(rows).all(axis=1)
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows[sound].reshape(-1)), self.source.dim)
        columns = batch.columns if sound.all() else batch.columns.filter(pa.array(sound))
        carried = dict(zip(self.columns, columns.columns, strict=True))
        return pa.table({ID: ids_to_arrow(batch.ids[sound]), EMBEDDING: embedding, **carried})


def _join(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive")


def _ids_in(path: Path, dtype: np.dtype) -> np.ndarray:
    if not pq.read_metadata(path).num_rows:
        return np.empty(0, dtype)
    rows = open_raw_rows(path, id_column=ID)
    return _ids(rows.row_batches(0, rows.num_rows, []))


def _ids(batches: Iterator[tuple[np.ndarray, pa.RecordBatch]]) -> np.ndarray:
    found = [ids for ids, _ in batches]
    return np.concatenate(found) if found else np.empty(0, np.int64)
