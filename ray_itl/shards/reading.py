"""Pieces of a range of rows, read by several threads at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple


class Piece(NamedTuple):
    """Rows `start <= row < stop`; never empty."""

    start: int
    stop: int


class _StoppedError(Exception):
    """Another piece failed, or nobody waits any longer."""


def cut(start: int, stop: int, cuts: Sequence[int], least: int) -> list[Piece]:
    """Cut a range at some of the places where it may be cut, into pieces of at least `least` rows but for the last.

    Args:
        start: First row.
        stop: One past the last row.
        cuts: Rows at which a piece may begin, ascending, between the two.
        least: Number of rows, > 0.
    """
    starts = [start]
    for place in cuts:
        if place - starts[-1] >= least:
            starts.append(place)
    return [Piece(*ends) for ends in zip(starts, [*starts[1:], stop], strict=True)]


def read_pieces(
    pieces: Sequence[Piece],
    read: Callable[[Piece, Callable[[int], None]], None],
    num_threads: int,
    on_rows: Callable[[int], None],
) -> None:
    """Read pieces, some at a time.

    Args:
        pieces: Which.
        read: Reads one, in any thread, and tells how many further rows it has after every batch.
        num_threads: How many are read at a time; a single piece is read in this thread.
        on_rows: Told, in this thread, how many rows of all pieces there are so far.

    Raises:
        Exception: what reading one after another would have raised; the other threads have stopped then.
    """
    done = 0
    if len(pieces) == 1:

        def came(rows: int) -> None:
            nonlocal done
            done += rows
            on_rows(done)

        read(pieces[0], came)
        return
    counts: SimpleQueue[int] = SimpleQueue()
    stopping = threading.Event()

    def count(rows: int) -> None:
        if stopping.is_set():
            raise _StoppedError
        counts.put(rows)

    with ThreadPoolExecutor(num_threads, "read") as threads:
        try:
            futures = [threads.submit(read, piece, count) for piece in pieces]
            for future in futures:
                future.add_done_callback(lambda _: counts.put(0))  # wakes this thread
            for future in futures:
                while not future.done():
                    done += counts.get()
                    on_rows(done)
                future.result()
            on_rows(pieces[-1].stop - pieces[0].start)
        finally:
            stopping.set()
            threads.shutdown(wait=False, cancel_futures=True)
