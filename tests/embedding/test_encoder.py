"""What every encoder does with a column: windows in order, rows counted through them, one window prepared ahead."""

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.embedding.encoder import Encoder, OnRows, beside, unheard
from ray_itl.errors import InputError
from ray_itl.sources.schema import which_row


class Lengths(Encoder):
    """The length of a text, and how many are in its window."""

    dim, window = 2, 4

    def identity(self) -> dict[str, str]:
        return {}

    def prepare(self, column: pa.Array) -> Any:
        texts = column.to_pylist()
        if pa.types.is_integer(column.type):
            raise InputError("the column holds numbers")
        for row, text in enumerate(texts):
            if text is None:
                raise InputError(f"{which_row('', row)}: there is none; drop it")
        return texts

    def embed(self, prepared: Any, on_rows: OnRows = unheard) -> np.ndarray:
        on_rows(len(prepared))
        return np.array([[len(text), len(prepared)] for text in prepared], dtype=np.float32).reshape(-1, 2)


def test_rows_are_embedded_window_by_window_in_order() -> None:
    texts = ["x" * row for row in range(10)]
    told: list[int] = []
    found = Lengths().embed_column(pa.array(texts), told.append)
    assert told == [4, 4, 2]
    assert found.tolist() == [[row, 4 if row < 8 else 2] for row in range(10)]
    assert Lengths().embed_column(pa.array([], pa.string())).shape == (0, 2)


def test_a_bad_row_is_counted_within_the_column() -> None:
    texts = pa.array(["a"] * 5 + [None, "b", None])
    with pytest.raises(InputError, match=r"^row 5 \(counting from 0\): there is none; drop it$"):
        Lengths().embed_column(texts)
    assert Lengths().undecodable(texts) == {5: "there is none; drop it", 7: "there is none; drop it"}
    with pytest.raises(InputError, match=r"^the column holds numbers$"):
        Lengths().embed_column(pa.array([1, 2]))


@pytest.mark.parametrize("in_thread", [False, True])
def test_what_is_made_beside_comes_in_order(in_thread: bool) -> None:
    threads = set()

    def make(item: int) -> int:
        threads.add(threading.current_thread() is threading.main_thread())
        return item * item

    assert list(beside(range(5), make, in_thread)) == [(n, n * n) for n in range(5)]
    assert threads == {not in_thread}


def test_the_next_is_made_while_the_last_is_used() -> None:
    made = [threading.Event() for _ in range(3)]
    for item, _ in beside(range(3), lambda item: made[item].set()):
        if item < 2:
            assert made[item + 1].wait(10)


def test_an_error_of_making_is_raised_where_its_item_would_come() -> None:
    def make(item: int) -> int:
        if item == 2:
            raise InputError("two")
        return item

    pairs = beside(range(9), make)
    assert [next(pairs)[0], next(pairs)[0]] == [0, 1]
    with pytest.raises(InputError, match="two"):
        next(pairs)
