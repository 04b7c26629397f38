"""Batches hold every row once, fit their budget, and are computed alike on any number of cores."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.embedding.batches import by_length, on_cores

LENGTHS = st.lists(st.integers(0, 600), max_size=200)


@given(LENGTHS, st.integers(1, 5000))
def test_every_row_is_in_one_batch_that_fits(lengths: list[int], budget: int) -> None:
    batches = by_length(lengths, budget)
    assert sorted(np.concatenate([*batches, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget
    longest = [max(lengths[row] for row in rows) for rows in batches]
    in_order = longest[::2] + longest[1::2][::-1]
    assert in_order == sorted(longest, reverse=True)


def test_little_is_padding() -> None:
    lengths = np.random.default_rng(0).geometric(1 / 18, 4096) + 2
    padded = sum(len(rows) * lengths[rows].max() for rows in by_length(lengths, 2048))
    unsorted = sum(64 * lengths[start : start + 64].max() for start in range(0, 4096, 64))
    assert padded < 1.06 * lengths.sum() < unsorted / 3


def test_few_rows_are_spread_over_cores() -> None:
    assert len(by_length([100] * 32, 100_000)) >= 8


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_each_thread_computes_on_one_core_and_the_order_is_kept(num_threads: int) -> None:
    before, seen = torch.get_num_threads(), set()

    def work(item: int) -> tuple[int, int]:
        seen.add(threading.get_ident())
        return item, torch.get_num_threads()

    assert list(on_cores(work, list(range(20)), num_threads)) == [(item, 1) for item in range(20)]
    assert len(seen) <= num_threads
    assert torch.get_num_threads() == before
    others = []
    thread = threading.Thread(target=lambda: others.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert others == [before]


def test_products_do_not_depend_on_the_number_of_threads() -> None:
    a = torch.randn(300, 400, generator=torch.Generator().manual_seed(0))
    items = [a[start : start + 37] for start in range(0, 300, 37)]
    one, three = (list(on_cores(lambda rows: rows @ a.mT, items, count)) for count in (1, 3))
    assert all(torch.equal(x, y) for x, y in zip(one, three, strict=True))


def test_an_error_comes_through() -> None:
    def fail(item: int) -> int:
        raise ValueError(item)

    with pytest.raises(ValueError, match="7"):
        list(on_cores(fail, [7], 2))
    assert list(on_cores(fail, [], 2)) == []
