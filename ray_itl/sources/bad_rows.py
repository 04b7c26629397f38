"""Rows that cannot be used: noted with their reasons while the others are read, and told of all together.

Whoever reads with a `BadRows` gets all rows, the bad ones as NaN or with a blank id, and finds there which they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.io.image_files import is_image_folder
from ray_itl.sources.ids import IdKind, id_arrow_type, id_dtype, ids_from_arrow
from ray_itl.sources.schema import WhichRow, check_finite, embedding_rows, which_row

SKIPPED_FILE = "skipped.parquet"
REMEDY = "set pool.on_bad_row=skip"
_NAMED = 10


class BadRow(NamedTuple):
    """One row."""

    position: int
    id: int | str | None
    """None where it is the id that is bad."""
    reason: str
    """What is wrong, and after a semicolon what to do."""


class BadRows:
    """Bad rows of a source in order of position, each once; grows while the source is read."""

    def __init__(self, rows: Sequence[BadRow] = ()) -> None:
        """Begin with some rows, in any order."""
        self._rows: dict[int, BadRow] = {}
        self.extend(rows)

    def add(self, position: int, row_id: int | str | None, reason: str) -> None:
        """Note a row, unless it was noted before."""
        self._rows.setdefault(position, BadRow(position, row_id, reason))

    def extend(self, rows: Sequence[BadRow] | BadRows, place: Callable[[int], int] = int) -> None:
        """Note further rows; `place` maps their positions to those here."""
        for row in rows:
            self.add(place(row.position), row.id, row.reason)

    @property
    def positions(self) -> np.ndarray:
        """Their positions, ascending int64."""
        return np.array(sorted(self._rows), dtype=np.int64)

    def within(self, first: int, stop: int) -> list[int]:
        """Return those of the positions `first <= position < stop`, counted from `first`."""
        return [position - first for position in range(first, stop) if position in self._rows] if self._rows else []

    def at(self, positions: np.ndarray) -> BadRows:
        """Return those that stand at some positions."""
        return (
            self
            if not self._rows
            else BadRows([self._rows[position] for position in np.intersect1d(self.positions, positions).tolist()])
        )

    def without(self, positions: np.ndarray | None) -> BadRows:
        """Return those that stand at none of some positions."""
        if positions is None or not len(positions) or not self._rows:
            return self
        others = set(np.intersect1d(self.positions, positions).tolist())
        return BadRows([row for row in self if row.position not in others])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[BadRow]:
        return (self._rows[position] for position in sorted(self._rows))

    def refusal(self, locate: Callable[[np.ndarray], tuple[list[str], np.ndarray]], remedy: str = "") -> BadRowsError:
        """Return the error that names the first ten and says how many there are.

        Args:
            locate: Tells files and rows of positions (see `PoolSource.locate`).
            remedy: What else would do, as "set pool.on_bad_row=skip".
        """
        rows = list(self)
        files, numbers = locate(np.array([row.position for row in rows[:_NAMED]], dtype=np.int64))
        places = [_place(*place) for place in zip(rows, files, numbers.tolist(), strict=False)]
        more = f", or {remedy}" if remedy else ""
        if len(rows) == 1:
            return BadRowsError(f"{places[0]}: {rows[0].reason}{more}", self)
        what, _, mend = rows[0].reason.partition("; ")
        whats = [what, *(row.reason.partition("; ")[0] for row in rows[1:_NAMED])]
        named = "; ".join(f"{place}: {what}" for place, what in zip(places, whats, strict=True))
        others = f"; and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
        return BadRowsError(
            f"{len(rows):,} rows cannot be used: {named}{others}: {mend or 'mend or drop them'}{more}", self
        )

    def table(self, locate: Callable[[np.ndarray], tuple[list[str], np.ndarray]], id_kind: IdKind) -> pa.Table:
        """Return skipped.parquet: file, row (counted from 0 in that file), id and reason of every row."""
        rows = list(self)
        files, numbers = locate(np.array([row.position for row in rows], dtype=np.int64))
        return pa.table(
            {
                "file": pa.array(files, pa.string()),
                "row": pa.array(numbers, pa.int64()),
                "id": pa.array([row.id for row in rows], id_arrow_type(id_kind)),
                "reason": pa.array([row.reason.partition("; ")[0] for row in rows], pa.string()),
            }
        )


def _place(row: BadRow, file: str, number: int) -> str:
    """Word a row; an image is called by its path, which is its id unless an option names another."""
    return f"file {row.id!r}" if is_image_folder(file) and row.id is not None else which_row(file, number)


class BadRowsError(InputError):
    """Rows that cannot be used, all that were found."""

    def __init__(self, message: str, rows: BadRows | None = None) -> None:
        """Take the words and the rows."""
        super().__init__(message)
        self.rows = BadRows() if rows is None else rows

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.rows)


class Notes:
    """Where to note bad rows of one batch."""

    def __init__(self, bad: BadRows, positions: int | np.ndarray) -> None:
        """Take what collects them, and the positions of the batch's rows, or of its first where they are adjacent."""
        self._bad, self._positions = bad, positions
        self.rows: list[int] = []
        """Rows of the batch that were noted here."""

    @classmethod
    def on(cls, bad: BadRows | None, positions: int | np.ndarray) -> Notes | None:
        """Return notes if there is something to collect them."""
        return None if bad is None else cls(bad, positions)

    def add_all(self, found: dict[int, str], ids: np.ndarray | None) -> None:
        """Note rows of the batch with their reasons, and their ids (n) where they have any."""
        self.rows += found
        for row, reason in found.items():
            position = self._positions + row if isinstance(self._positions, int) else int(self._positions[row])
            self._bad.add(position, None if ids is None else ids[row : row + 1].tolist()[0], reason)


@contextmanager
def noted(bad: BadRows | None, number: Callable[[int], int]) -> Iterator[BadRows | None]:
    """Yield what collects the bad rows of a base, for `bad` where `number` tells their positions; None for None."""
    found = None if bad is None else BadRows()
    yield found
    if bad is not None and found is not None:
        bad.extend(found, number)


def faults(num_rows: int, check: Callable[[int, int], object], prefix: str = ": ") -> dict[int, str]:
    """Return row -> reason of those of n rows that cannot be used.

    Args:
        num_rows: n.
        check: Reads rows `first <= row < stop`, and raises InputError if it cannot. Called about log n times for each
            bad row.
        prefix: Begins the words of errors about a single row that is read by itself; not part of the reason.

    Raises:
        InputError: what `check` raised that is about no single row.
    """
    found: dict[int, str] = {}
    ranges = [(0, num_rows)] if num_rows else []
    while ranges:
        first, stop = ranges.pop()
        try:
            check(first, stop)
        except InputError as error:
            if stop - first > 1:
                middle = (first + stop) // 2
                ranges += [(first, middle), (middle, stop)]
            elif not str(error).startswith(prefix):
                raise
            else:
                found[first] = str(error).removeprefix(prefix)
    return found


def sound_runs(num_rows: int, found: Iterable[int]) -> Iterator[slice]:
    """Yield the runs of rows between those found bad."""
    first = 0
    for row in [*sorted(found), num_rows]:
        if first < row:
            yield slice(first, row)
        first = row + 1


def embeddings_or_nan(
    array: pa.Array, dim: int, column: str, which: WhichRow, dtype: np.dtype, ids: np.ndarray, notes: Notes | None
) -> np.ndarray:
    """Return `embedding_rows` of an array; with `notes`, bad rows are noted there and NaN."""
    try:
        return without_noted(embedding_rows(array, dim, column, which), notes)
    except InputError:
        if notes is None:
            raise
    found = faults(len(array), lambda a, b: embedding_rows(array.slice(a, b - a), dim, column, _no_words))
    rows = np.full((len(array), dim), np.nan, dtype=dtype)
    for run in sound_runs(len(array), found):
        rows[run] = embedding_rows(array.slice(run.start, run.stop - run.start), dim, column, which)
    notes.add_all(found, ids)
    return without_noted(rows, notes)


def without_noted(rows: np.ndarray, notes: Notes | None) -> np.ndarray:
    """Return a matrix with NaN in the rows that were noted."""
    if notes is None or not notes.rows:
        return rows
    rows = rows.copy()
    rows[notes.rows] = np.nan
    return rows


def ids_or_blank(array: pa.Array, column: str, kind: IdKind, which: WhichRow, notes: Notes | None) -> np.ndarray:
    """Return `ids_from_arrow` of an array; with `notes`, bad ones are noted there, and 0 or ""."""
    try:
        return ids_from_arrow(array, column, kind, which)
    except InputError:
        if notes is None:
            raise
    found = faults(len(array), lambda a, b: ids_from_arrow(array.slice(a, b - a), column, kind, _no_words))
    ids = np.zeros(len(array), dtype=id_dtype(kind))
    for run in sound_runs(len(array), found):
        ids[run] = ids_from_arrow(array.slice(run.start, run.stop - run.start), column, kind, which)
    notes.add_all(found, None)
    return ids


def rows_or_nan(rows: np.ndarray, column: str, which: WhichRow, ids: np.ndarray, notes: Notes | None) -> np.ndarray:
    """Return a matrix whose numbers must be finite; with `notes`, rows of others are noted there and NaN."""
    try:
        check_finite(rows, column, which)
    except InputError:
        if notes is None:
            raise
        found = faults(len(rows), lambda a, b: check_finite(rows[a:b], column, _no_words))
        notes.add_all(found, ids)
    return without_noted(rows, notes)


def _no_words(_: int) -> str:
    return ""
