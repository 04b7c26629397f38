"""What embedding the rows of a pool would take: how many were never seen, and how fast some of them are embedded."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ray_itl.embedding.cached import CachedEncoding
from ray_itl.embedding.segments import kept_bytes
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import RowSource
from ray_itl.sources.encoding import RawBatch
from ray_itl.sources.schema import which_row

_WHOLE_ROWS = 1 << 17
"""So many rows are all looked up; of more, as many in runs."""
_RUNS = 16
_WARM_ROWS, _TRY_ROWS, _MOST_ROWS, _TRY_S = 8, 32, 512, 2.0


@dataclass(frozen=True)
class EmbeddingSurvey:
    """What is to be expected of embedding a pool."""

    num_rows: int
    """Of the pool."""
    dim: int
    """D."""
    num_new: int
    """Rows that were never seen, equal ones once."""
    is_exact: bool
    """Whether that was counted, and not judged by a sample."""
    read_rows: float
    """Rows a second that are read and looked up."""
    embed_rows: float | None
    """Rows a second that are embedded in this process; None where none was tried."""
    size: int
    """Bytes that they take."""
    place: str
    """Where they are kept."""
    free: int | None
    """Bytes that are free there; None where nothing bounds it."""

    @property
    def seconds(self) -> float:
        """Seconds that embedding takes in one process like this."""
        return 0.0 if self.embed_rows is None else self.num_new / self.embed_rows

    def of(self, num_rows: int) -> EmbeddingSurvey:
        """Return the same as if the pool had another number of rows: further ones were never seen."""
        if num_rows == self.num_rows:
            return self
        further = max(0, num_rows - self.num_rows)
        num_new = further + round(self.num_new * (num_rows - further) / self.num_rows)
        size = kept_bytes(num_new, self.dim)
        return replace(self, num_rows=num_rows, num_new=num_new, is_exact=False, size=size)


def survey(rows: RowSource, encoding: CachedEncoding, tries_known: bool = False) -> EmbeddingSurvey:
    """Look up some rows, and embed up to 512 of those never seen, for two seconds; nothing is kept of them.

    With `tries_known`, rows are embedded to see how fast that goes though none is new.

    Raises:
        InputError: the column cannot be read or embedded.
        CacheError: there is no room for what would be kept.
    """
    num_rows, seen, new = rows.num_rows, 0, 0
    examples: list[pa.Array] = []
    began, embedding_s = time.perf_counter(), 0.0
    for first, stop in _runs(num_rows):
        table = [batch for _, batch in rows.row_batches(first, stop, [encoding.column], BadRows())]
        block = encoding.look_up(_raw(batch) for batch in table)
        missing = np.flatnonzero(block.missing())
        fresh = missing[np.sort(np.unique(block.places.number[missing], return_index=True)[1])]
        seen, new = seen + stop - first, new + len(fresh)
        tried = fresh if len(fresh) or not tries_known else np.flatnonzero(block.kept(0, stop - first))
        if len(tried) and sum(map(len, examples)) < _MOST_ROWS:
            values = pa.concat_arrays([batch.column(0) for batch in table])
            examples.append(values.take(pa.array(tried[:_MOST_ROWS])))
    embedding_s = time.perf_counter() - began
    num_new = round(num_rows * new / max(seen, 1))
    size = kept_bytes(num_new, encoding.dim)
    encoding.store.check_room(size)
    return EmbeddingSurvey(
        num_rows,
        encoding.dim,
        num_new,
        seen == num_rows,
        seen / max(embedding_s, 1e-9),
        _pace(encoding, pa.concat_arrays(examples)[:_MOST_ROWS]) if examples else None,
        size,
        encoding.options.place,
        encoding.store.free_bytes(),
    )


def _runs(num_rows: int) -> list[tuple[int, int]]:
    if num_rows <= _WHOLE_ROWS:
        return [(0, num_rows)]
    length = _WHOLE_ROWS // _RUNS
    return [(int(first), int(first) + length) for first in np.linspace(0, num_rows - length, _RUNS)]


def _raw(batch: pa.RecordBatch) -> RawBatch:
    return np.arange(batch.num_rows), batch, _nameless, None


def _nameless(row: int) -> str:
    return which_row("", row)


def _pace(encoding: CachedEncoding, values: pa.Array) -> float:
    """Return how many rows a second are embedded, once the model is warm."""
    warm = min(_WARM_ROWS, max(0, len(values) - 1))
    if warm:
        encoding.embed(encoding.prepare(values[:warm], _nameless))
    began, done = time.perf_counter(), warm
    while done < len(values) and (done == warm or time.perf_counter() - began < _TRY_S):
        some = values[done : done + min(_TRY_ROWS, encoding.encoder.window)]
        encoding.embed(encoding.prepare(some, _nameless))
        done += len(some)
    return (done - warm) / max(time.perf_counter() - began, 1e-9)
