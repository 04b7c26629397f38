"""Ranges are cut where they may be, read by threads, and told of in one."""

from __future__ import annotations

import threading

import pytest

from ray_itl.shards.reading import Piece, cut, read_pieces

PIECES = [Piece(0, 3), Piece(3, 4), Piece(4, 10), Piece(10, 12)]


def test_pieces_begin_where_they_may_and_are_large_enough() -> None:
    assert cut(5, 100, [10, 20, 30, 90, 95], 15) == [Piece(5, 20), Piece(20, 90), Piece(90, 100)]
    assert cut(5, 100, [], 15) == [Piece(5, 100)]
    assert cut(5, 100, [10, 20], 1000) == [Piece(5, 100)]


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("pieces", [PIECES, PIECES[2:3]])
def test_all_rows_are_told_of_in_the_calling_thread(pieces, num_threads: int) -> None:
    told, threads, read = [], set(), []

    def one(piece: Piece, came) -> None:
        for row in range(*piece):
            read.append(row)
            came(1)

    def on_rows(done: int) -> None:
        told.append(done)
        threads.add(threading.get_ident())

    read_pieces(pieces, one, num_threads, on_rows)
    rows = list(range(pieces[0].start, pieces[-1].stop))
    assert sorted(read) == rows
    assert told == sorted(told)
    assert told[-1] == len(rows)
    assert threads == {threading.get_ident()}


def test_what_failed_first_in_order_is_raised_although_it_failed_last() -> None:
    later_has_failed = threading.Event()

    def one(piece: Piece, _) -> None:
        if piece == PIECES[1]:
            assert later_has_failed.wait(60)
            raise ValueError("second")
        if piece == PIECES[2]:
            later_has_failed.set()
            raise ValueError("third")

    with pytest.raises(ValueError, match="second"):
        read_pieces(PIECES, one, 2, lambda _: None)


def test_others_stop_when_one_failed() -> None:
    another_reads = threading.Event()
    stopped = []

    def one(piece: Piece, came) -> None:
        if piece == PIECES[0]:
            assert another_reads.wait(60)
            raise ValueError("first")
        try:
            while True:
                came(0)
                another_reads.set()
        except BaseException:
            stopped.append(piece)
            raise

    with pytest.raises(ValueError, match="first"):
        read_pieces(PIECES, one, 2, lambda _: None)
    assert len(stopped) <= 2
    assert PIECES[1] in stopped


def test_an_error_of_who_is_told_ends_the_reading() -> None:
    def one(_: Piece, came) -> None:
        while True:
            came(1)

    def on_rows(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_pieces(PIECES, one, 2, on_rows)
