"""What turns a column of raw rows into embeddings, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import faults
from ray_itl.sources.schema import which_row

Item = TypeVar("Item")
Made = TypeVar("Made")
_FIRST_ROW = which_row("", 0)
OnRows = Callable[[int], object]
"""Told how many rows more are embedded."""


def unheard(_: int) -> None:
    """Tell nobody."""


class Encoder(ABC):
    """Turns raw rows into embeddings, the same in every process.

    Pickles as what names the model, without weights: each process loads them on first use, and checks that they are
    those that this encoder was made with.

    `prepare` and `embed` are the two halves of the work. Rows are handed to them in windows: whoever embeds a pool
    gives rows 0 to W - 1 of it together, then W to 2W - 1, and so on. So an embedding is the same to the last bit
    however the pool is split; elsewhere, a row's embedding depends on the others of its window by rounding alone.
    """

    dim: int
    """D, numbers of an embedding."""
    window: int
    """W, rows that are prepared and embedded together."""
    prepares_beside: bool = True
    """Whether `prepare` may run in a thread while `embed` is busy with other rows."""
    weights_bytes: int = 0
    """Memory that the model's weights take in a process that embeds."""
    notes: tuple[str, ...] = ()
    """What people should know of how this encoder embeds, a line each."""

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Return name -> value of everything that decides an embedding, but where it is computed."""

    @abstractmethod
    def prepare(self, column: pa.Array) -> Any:
        """Decode at most W raw rows, for `embed` alone.

        Raises:
            InputError: a row that cannot be decoded (begins with its number within `column`), or a column of a type
                that the model does not read.
        """

    @abstractmethod
    def embed(self, prepared: Any, on_rows: OnRows = unheard) -> np.ndarray:
        """Return n x D float32 embeddings of what `prepare` made, rows in order. Nothing is said of their being finite.

        Args:
            prepared: By `prepare` of this encoder.
            on_rows: Told of further rows as they are done; in the end of n.

        Raises:
            ConfigError, InputError: the model cannot be had in this process, or is another one here.
        """

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Return what users should know of how rows of this type are read, a line each."""
        del kind
        return []

    def details(self) -> dict[str, Any]:
        """Return what else a record of a run should hold; JSON values."""
        return {}

    def embed_column(self, column: pa.Array, on_rows: OnRows = unheard) -> np.ndarray:
        """Return n x D float32 embeddings of n raw rows, in order, window by window; of `on_rows` see `embed`.

        Raises:
            InputError: the first row that cannot be decoded, counted within `column`.
            ConfigError: see `embed`.
        """
        rows = np.empty((len(column), self.dim), dtype=np.float32)
        starts = range(0, len(column), self.window)
        with_prepared = beside(starts, lambda start: self._prepared(column, start), self.prepares_beside)
        for start, prepared in with_prepared:
            rows[start : start + self.window] = self.embed(prepared, on_rows)
        return rows

    def undecodable(self, column: pa.Array) -> dict[int, str]:
        """Return row -> reason of those of some rows that cannot be decoded.

        Raises:
            InputError: it is not the rows but the column.
        """
        return faults(len(column), lambda a, b: self.prepare(column.slice(a, b - a)), f"{_FIRST_ROW}: ")

    def _prepared(self, column: pa.Array, start: int) -> Any:
        some = column.slice(start, self.window)
        try:
            return self.prepare(some)
        except InputError:
            found = self.undecodable(some)
            if not found:
                raise
            first = min(found)
            raise InputError(f"{which_row('', start + first)}: {found[first]}") from None


def beside(items: Iterable[Item], make: Callable[[Item], Made], in_thread: bool = True) -> Iterator[tuple[Item, Made]]:
    """Yield each item with what is made of it, which a thread does for the next one meanwhile."""
    if not in_thread:
        yield from ((item, make(item)) for item in items)
        return
    with ThreadPoolExecutor(1, "prepare") as thread:
        waiting: deque[tuple[Item, Future[Made]]] = deque()
        for item in items:
            waiting.append((item, thread.submit(make, item)))
            if len(waiting) > 1:
                first, made = waiting.popleft()
                yield first, made.result()
        for item, made in waiting:
            yield item, made.result()
