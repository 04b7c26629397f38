"""A pool whose embeddings are computed from a raw column while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.embedding.encoder import Encoder, OnRows, beside, unheard
from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows, Notes, faults
from ray_itl.sources.base import RowSource
from ray_itl.sources.ids import IdKind
from ray_itl.sources.manifest import check_range
from ray_itl.sources.schema import check_positions, which_row

_FIRST_ROW = which_row("", 0)
_NOT_FINITE = (
    "its embedding is not finite; the model's weights have diverged (lower training.learning_rate) or the row is "
    "extreme (drop it)"
)


class EmbeddedBatch(NamedTuple):
    """Rows `start` and on of a pool."""

    start: int
    ids: np.ndarray
    columns: pa.Table
    """The columns asked for besides the raw one."""
    embeddings: np.ndarray
    """n x dim float32, finite; NaN for rows noted as bad."""


class EmbeddedSource:
    """The rows of a base with the embeddings that an encoder gives of a raw column (see `PoolSource`).

    Rows are embedded in the encoder's windows of W rows by position: 0 to W - 1, W to 2W - 1, and so on. Whoever wants
    rows of a window embeds all of it. So an embedding is the same to the last bit however the pool is split into
    shards, wherever a run resumes, and whether rows are streamed or fetched, as long as the model's arithmetic is a
    function of its batch (kernels of one device, one number of threads, one version of torch). A `SubsetRows` as the
    base is a pool of its own with positions of its own: its embeddings differ from the whole pool's by rounding.

    Nothing is kept: each pass computes every embedding again, in the memory of two windows. Pickles as the base and the
    embedder, both small for files.
    """

    def __init__(self, base: RowSource, raw_column: str, embedder: Encoder) -> None:
        """Name the base, its column, and what embeds it; reads nothing."""
        self.num_rows: int = base.num_rows
        self.id_kind: IdKind = base.id_kind
        self.dim: int = embedder.dim
        self.dtype: np.dtype = np.dtype(np.float32)
        self.base, self.raw_column, self.embedder = base, raw_column, embedder

    def batches(self, start: int, stop: int, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` for positions `start <= position < stop`, in order, at most W rows each."""
        for batch in self.embed_batches(start, stop, bad=bad):
            yield batch.ids, batch.embeddings

    def batches_at(self, positions: np.ndarray, bad: BadRows | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct.

        Embeds every window that holds such a row: up to W rows for one.
        """
        size = self.embedder.window
        wanted = check_positions(positions, self.num_rows)
        numbers, begins = np.unique(wanted // size, return_index=True)
        rows = (numbers[:, None] * size + np.arange(size)).reshape(-1)
        found = BadRows()
        read = self.base.row_batches_at(rows[rows < self.num_rows], [self.raw_column], found)
        ends = [*begins[1:].tolist(), len(wanted)]
        for number, begin, end, (ids, table) in zip(numbers.tolist(), begins, ends, _regroup(read, size), strict=False):
            inside = wanted[begin:end] - number * size
            made = self._prepare(number * size, ids, table.column(0), found)
            yield ids[inside], self._embed(number * size, ids, made, found)[inside]
        self._tell(found.at(wanted), bad)

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions`, in that order."""
        return self.base.take(positions, columns)

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order; costs what `batches_at` does."""
        unique, inverse = np.unique(check_positions(positions, self.num_rows), return_inverse=True)
        found = [np.empty((0, self.dim)), *(rows.astype(np.float64) for _, rows in self.batches_at(unique))]
        return np.concatenate(found)[inverse]

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the file of each position and its row in that file, as the base does."""
        return self.base.locate(positions)

    def embed_batches(
        self,
        start: int,
        stop: int,
        columns: Sequence[str] = (),
        bad: BadRows | None = None,
        on_rows: OnRows = unheard,
    ) -> Iterator[EmbeddedBatch]:
        """Yield the rows `start <= position < stop` in order with further columns of theirs, at most W rows each.

        Of `on_rows` see `Encoder.embed`. With `bad`, rows without a usable id, that cannot be decoded, or whose
        embedding is not finite are noted there once all is read, and are NaN.

        Raises:
            InputError: files that cannot be read; without `bad`, once all is read, such rows (names files and rows).
        """
        check_range(start, stop, self.num_rows)
        size = self.embedder.window
        begin = first = start // size * size
        last = min(-(-stop // size) * size, self.num_rows) if start < stop else first
        names = list(dict.fromkeys([self.raw_column, *columns]))
        found = BadRows()
        windows = enumerate(_regroup(self.base.row_batches(first, last, names, found), size))

        def prepare(window: tuple[int, tuple[np.ndarray, pa.Table]]) -> _Prepared:
            number, (ids, table) = window
            return self._prepare(begin + number * size, ids, table.column(self.raw_column), found)

        for (_, (ids, table)), made in beside(windows, prepare, self.embedder.prepares_beside):
            embeddings = self._embed(first, ids, made, found, on_rows)
            rows = slice(max(start - first, 0), min(stop - first, len(ids)))
            wanted = table.select(list(columns)).slice(rows.start, rows.stop - rows.start)
            yield EmbeddedBatch(first + rows.start, ids[rows], wanted, embeddings[rows])
            first += len(ids)
        self._tell(found.at(np.arange(start, stop)), bad)

    def fingerprint(self, base_fingerprint: str) -> str:
        """Return a SHA-256 of what decides the embeddings: the base's own, the raw column, and the embedder."""
        parts = [base_fingerprint, self.raw_column, *map(str, sorted(self.embedder.identity().items()))]
        return sha256("\0".join(parts).encode()).hexdigest()

    def _tell(self, found: BadRows, bad: BadRows | None) -> None:
        if bad is not None:
            bad.extend(found)
        elif len(found):
            raise found.refusal(self.locate)

    def _prepare(self, first: int, ids: np.ndarray, column: pa.ChunkedArray, bad: BadRows) -> _Prepared:
        """Decode the rows of one window, the first of which stands at `first`, without those that are bad."""
        values = column.combine_chunks()
        faulty: dict[int, str] = {}
        sound = np.setdiff1d(np.arange(len(ids)), bad.within(first, first + len(ids)))
        try:
            inputs = self.embedder.prepare(values)
        except InputError:
            faulty = _undecodable(self, first, self.raw_column, values, self.embedder.prepare)
            sound = np.setdiff1d(sound, list(faulty))
            inputs = self.embedder.prepare(values.take(pa.array(sound))) if len(sound) else None
        else:
            inputs = inputs if len(sound) == len(ids) else self.embedder.prepare(values.take(pa.array(sound)))
        return _Prepared(sound, inputs, faulty)

    def _embed(
        self, first: int, ids: np.ndarray, made: _Prepared, bad: BadRows, on_rows: OnRows = unheard
    ) -> np.ndarray:
        """Embed the rows of one window, the first of which stands at `first`; NaN where they are bad."""
        embeddings = np.full((len(ids), self.dim), np.nan, dtype=np.float32)
        if made.inputs is not None:
            embeddings[made.sound] = self.embedder.embed(made.inputs, on_rows)
        finite = np.isfinite(embeddings).all(axis=1)
        found = made.faulty | dict.fromkeys(np.setdiff1d(made.sound, np.flatnonzero(finite)).tolist(), _NOT_FINITE)
        embeddings[~finite] = np.nan
        Notes(bad, first).add_all(found, ids)
        return embeddings


class _Prepared(NamedTuple):
    """Rows of one window, decoded."""

    sound: np.ndarray
    """Numbers of those that can be."""
    inputs: Any
    """What the encoder made of them; None where there are none."""
    faulty: dict[int, str]
    """Number -> reason of those that cannot."""


def note_undecodable(
    base: RowSource, raw_column: str, encode: Callable[[pa.Array], Any], batch_size: int, bad: BadRows
) -> None:
    """Note the rows of a base without a usable id, or that a model cannot decode; reads it once, and embeds nothing.

    Raises:
        InputError: files that cannot be read, or a column of a type that the model does not read.
    """
    first = 0
    for ids, table in _regroup(base.row_batches(0, base.num_rows, [raw_column], bad), batch_size):
        values = table.column(0).combine_chunks()
        try:
            encode(values)
        except InputError:
            Notes(bad, first).add_all(_undecodable(base, first, raw_column, values, encode), ids)
        first += len(ids)


def _undecodable(
    rows: RowSource | EmbeddedSource, first: int, name: str, values: pa.Array, encode: Callable[[pa.Array], Any]
) -> dict[int, str]:
    """Return what is wrong with each of some rows that cannot be decoded by itself; InputError if it is the column."""
    column = f"column {name!r}"
    try:
        found = faults(len(values), lambda a, b: encode(values.slice(a, b - a)), f"{_FIRST_ROW}: ")
    except InputError as error:
        files, numbers = rows.locate(np.array([first]))
        raise InputError(f"{which_row(files[0], int(numbers[0]))}: {column}: {error}") from error
    return {row: f"{column}: {problem}" for row, problem in found.items()}


def _regroup(batches: Iterator[tuple[np.ndarray, pa.RecordBatch]], size: int) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Yield `(ids, columns)` of `size` rows each, the last of fewer, from batches of any size."""
    held_ids: list[np.ndarray] = []
    held: list[pa.RecordBatch] = []
    count = 0
    for ids, batch in batches:
        done = 0
        while done < len(ids):
            some = min(size - count, len(ids) - done)
            held_ids.append(ids[done : done + some])
            held.append(batch.slice(done, some))
            done, count = done + some, count + some
            if count == size:
                yield np.concatenate(held_ids), _join(held)
                count, held_ids, held = 0, [], []
    if count:
        yield np.concatenate(held_ids), _join(held)


def _join(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.concat_tables(map(pa.Table.from_batches, ([batch] for batch in batches)), promote_options="default")
