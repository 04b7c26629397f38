"""Which rows of a pool are kept: one bit a row, with the way from kept rows to all rows and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ray_itl.io.manifest import check_range

_BLOCK = 1 << 12  # rows whose bits are unpacked together; the table of counts has an entry for each
_PIECE = 1 << 20


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

    @property
    def is_full(self) -> bool:
        """Whether every row is kept."""
        return self.count == self.num_rows
