"""A column that is embedded while it is read, as far as what it holds was never embedded before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.embedding.content import keys_of, unusable
from ray_itl.embedding.encoder import Encoder, beside
from ray_itl.embedding.option_names import renaming_options
from ray_itl.embedding.segments import Places, kept_bytes
from ray_itl.embedding.store import EmbeddingStore, StoreOptions
from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import Notes
from ray_itl.sources.encoding import RawBatch, ReadRows
from ray_itl.sources.schema import WhichRow

_BLOCK_ROWS = 1 << 20
"""Rows that are looked up together."""
_FIRST_ROWS, _MOST_ROWS = 64, 1024
"""Rows that the encoder is given at a time: few at first, so that a pace is told in the first seconds."""
_FOUND_ROWS = 4096
"""Rows that are read together where all are kept."""
_BATCH_BYTES = 2 << 20
_COPIES = 2
"""While weights are read they are there twice, and later there is what the model computes."""
_NOT_FINITE = "its embedding is not finite; the row is extreme, or the model is damaged: drop the row, or mend it"
_REMEDY = "drop the row, or give it a value"


@dataclass
class Block:
    """What is known of adjacent rows before any of them is embedded."""

    places: Places
    unusable: dict[int, str]
    """Row -> why it cannot be embedded, as far as that is seen without the encoder."""
    failed: dict[int, str] = field(default_factory=dict)
    """Number of a key in `places` -> why the encoder could not embed what has it."""

    def kept(self, first: int, stop: int) -> np.ndarray:
        """Return which of the rows `first <= row < stop` are kept and usable."""
        found = self.places.segments[self.places.number[first:stop]] >= 0
        begin, end = np.searchsorted(self._unusable_rows, [first, stop])
        found[self._unusable_rows[begin:end] - first] = False
        return found

    def missing(self) -> np.ndarray:
        """Return which rows are to be embedded."""
        found = self.places.segments[self.places.number] < 0
        found[self._unusable_rows] = False
        return found

    @cached_property
    def _unusable_rows(self) -> np.ndarray:
        return np.array(sorted(self.unusable), dtype=np.int64)

    def reason(self, row: int) -> str | None:
        """Return why a row cannot be used; None if it can be."""
        return self.unusable.get(row) or self.failed.get(int(self.places.number[row]))


@dataclass
class _Piece:
    """Rows of one batch."""

    first: int
    """Row of the block that its first one is."""
    ids: np.ndarray
    values: pa.Array | None
    offset: int
    """How many rows of the batch stand before them."""
    batch_ids: np.ndarray
    which: WhichRow
    notes: Notes | None


class Prepared(NamedTuple):
    """Values that are decoded, but not embedded yet."""

    num_rows: int
    """All of them."""
    sound: np.ndarray
    """Those that could be decoded."""
    inputs: Any
    """What the encoder made of these."""
    problems: dict[int, str]
    """Of each other value, why not."""


class CachedEncoding:
    """Embeddings of a column from a store, or else from the encoder, which then keeps them there (see `Encoding`).

    An embedding is computed once and stays as it was computed: in other company, or on another machine, its last bits
    may be others. A process that is killed loses what it embedded in the last minute.
    """

    def __init__(self, encoder: Encoder, options: StoreOptions, column: str) -> None:
        """Take what embeds, and where embeddings are kept."""
        self.encoder, self.options, self.column = encoder, options, column
        self.dim: int = encoder.dim
        # What is embedded together changes last bits alone, and is another on a GPU.
        told = encoder.identity().items()
        self.identity = {name: value for name, value in told if not name.startswith("embedding.batch_")}
        self.digest: str = sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]
        self.store = EmbeddingStore(options, self.identity, self.dim)
        self.memory_bytes = _COPIES * encoder.weights_bytes
        self.num_embedded = 0
        """Rows that the encoder was given in this process."""
        self._size = _FIRST_ROWS
        self._contents = sha256()

    @property
    def contents(self) -> str:
        """See `Encoding.contents`."""
        return self._contents.hexdigest()

    def on(self, column: str, kind: pa.DataType, sample: Callable[[], pa.Array]) -> CachedEncoding:
        """Return the same for another column."""
        del kind, sample
        return CachedEncoding(self.encoder, self.options, column)

    def embedded(self, num_rows: int, read: ReadRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Encoding.embedded`."""
        for first in range(0, num_rows, _BLOCK_ROWS):
            stop = min(first + _BLOCK_ROWS, num_rows)
            block = self.look_up(read(first, stop, [self.column]))
            missing = block.missing()
            to_embed = len(np.unique(block.places.number[missing]))
            self.store.make_room(kept_bytes(to_embed, self.dim))
            groups = self._groups(read(first, stop, [self.column] if to_embed else []), missing)
            if to_embed:
                groups = self._embedded(groups, block, missing)
            for group in groups:
                for piece in group:
                    yield from self._rows(piece, block)
            self.store.flush()

    def look_up(self, batches: Iterator[RawBatch]) -> Block:
        """Return what is known of rows of the column, and which of them are kept."""
        keys, problems, first = [np.empty((0, 2), dtype=np.uint64)], {}, 0
        for ids, batch, _, _ in batches:
            column = batch.column(0)
            found = unusable(column)
            problems |= {first + row: f"column {self.column!r} {what}; {_REMEDY}" for row, what in found.items()}
            keys.append(keys_of(column))
            self._contents.update(keys[-1].tobytes())
            first += len(ids)
        return Block(self.store.find(np.concatenate(keys)), problems)

    def prepare(self, values: pa.Array, which: WhichRow) -> Prepared:
        """Decode at most as many values as the encoder's window has, for `embed`.

        Raises:
            InputError: it is not some of the values that cannot be decoded, but the column.
        """
        with renaming_options():
            try:
                return Prepared(len(values), np.arange(len(values)), self.encoder.prepare(values), {})
            except InputError:
                problems = self._undecodable(values, which)
                if not problems:
                    raise
            sound = np.setdiff1d(np.arange(len(values)), list(problems))
            inputs = self.encoder.prepare(values.take(pa.array(sound))) if len(sound) else None
        return Prepared(len(values), sound, inputs, problems)

    def embed(self, prepared: Prepared) -> tuple[np.ndarray, dict[int, str]]:
        """Return the n x D embeddings of values, and row -> reason of those that have none: these are NaN."""
        rows = np.full((prepared.num_rows, self.dim), np.nan, dtype=np.float32)
        if len(prepared.sound):
            with renaming_options():
                rows[prepared.sound] = self.encoder.embed(prepared.inputs)
        self.num_embedded += len(prepared.sound)
        finite = np.isfinite(rows).all(axis=1)
        return rows, {**dict.fromkeys(np.flatnonzero(~finite).tolist(), _NOT_FINITE), **prepared.problems}

    def _undecodable(self, values: pa.Array, which: WhichRow) -> dict[int, str]:
        try:
            found = self.encoder.undecodable(values)
        except InputError as error:
            raise InputError(f"{which(0)}: column {self.column!r}: {error}") from error
        return {row: f"column {self.column!r}: {problem}" for row, problem in found.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_contents": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _contents=sha256(), num_embedded=0, _size=_FIRST_ROWS)

    def _groups(self, batches: Iterator[RawBatch], missing: np.ndarray) -> Iterator[list[_Piece]]:
        """Yield all rows in groups, of which those that are kept need no encoder, and others suit it."""
        held: list[_Piece] = []
        begin = end = 0
        for ids, batch, which, notes in batches:
            done = 0
            while done < len(ids):
                if begin == end:
                    end = begin + self._group_rows(missing, begin)
                some = min(end - begin, len(ids) - done)
                values = batch.column(0).slice(done, some) if batch.num_columns else None
                held.append(_Piece(begin, ids[done : done + some], values, done, ids, which, notes))
                begin, done = begin + some, done + some
                if begin == end:
                    yield held
                    held = []
        if held:
            yield held

    def _group_rows(self, missing: np.ndarray, begin: int) -> int:
        ahead = missing[begin : begin + _FOUND_ROWS]
        if not ahead.any():
            return len(ahead)
        if not ahead[0]:
            return int(ahead.argmax())
        size = min(self._size, self.encoder.window)
        self._size = min(2 * self._size, _MOST_ROWS)
        return min(size, len(ahead))

    def _embedded(self, groups: Iterator[list[_Piece]], block: Block, missing: np.ndarray) -> Iterator[list[_Piece]]:
        """Yield groups once what they lack is embedded, equal values once; the next one is prepared meanwhile."""
        places, taken = block.places, block.places.segments >= 0

        def prepare(group: list[_Piece]) -> tuple[np.ndarray, Prepared] | None:
            first, stop = group[0].first, group[-1].first + len(group[-1].ids)
            wanted = first + np.flatnonzero(missing[first:stop] & ~taken[places.number[first:stop]])
            if not len(wanted):
                return None
            wanted = wanted[np.sort(np.unique(places.number[wanted], return_index=True)[1])]
            numbers = places.number[wanted]
            taken[numbers] = True
            column = pa.concat_arrays([piece.values for piece in group if piece.values is not None])
            return numbers, self.prepare(column.take(pa.array(wanted - first)), _words(group, wanted))

        for group, made in beside(groups, prepare, self.encoder.prepares_beside):
            if made is not None:
                numbers, prepared = made
                embeddings, problems = self.embed(prepared)
                block.failed |= {int(numbers[row]): problem for row, problem in problems.items()}
                sound = np.setdiff1d(np.arange(len(numbers)), list(problems))
                if len(sound):
                    self.store.add(places, numbers[sound], embeddings[sound])
            yield group

    def _rows(self, piece: _Piece, block: Block) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of a piece, about 2 MiB at a time."""
        step = max(1, _BATCH_BYTES // (4 * self.dim))
        noted = [] if piece.notes is None else piece.notes.rows
        for begin in range(0, len(piece.ids), step):
            ids = piece.ids[begin : begin + step]
            rows = piece.first + begin + np.arange(len(ids))
            kept = block.kept(int(rows[0]), int(rows[-1]) + 1)
            embeddings = np.full((len(ids), self.dim), np.nan, dtype=np.float32)
            embeddings[kept] = self.store.read(block.places, rows[kept])
            before = piece.offset + begin
            for row in np.flatnonzero(~kept).tolist():
                reason = block.reason(int(rows[row])) or _NOT_FINITE
                if piece.notes is None:
                    raise InputError(f"{piece.which(before + row)}: {reason}")
                piece.notes.add_all({before + row: reason}, piece.batch_ids)
            embeddings[[row - before for row in noted if before <= row < before + len(ids)]] = np.nan
            yield ids, embeddings


def _words(group: list[_Piece], rows: np.ndarray) -> WhichRow:
    """Return the words for those rows of a group that are given to the encoder together."""

    def which(number: int) -> str:
        row = int(rows[number])
        piece = next(piece for piece in reversed(group) if piece.first <= row)
        return piece.which(piece.offset + row - piece.first)

    return which
