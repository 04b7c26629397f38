"""Rows of like length together, so that little that a model computes is padding; batches side by side on cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from threading import Barrier
from typing import TypeVar

import numpy as np
import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_LEAST_BATCHES = 8
"""Where rows are few, batches are so small that this many cores have something to do."""
_LEAST_TOKENS = 256


def by_length(
    lengths: Sequence[int] | np.ndarray, budget: int, least_batches: int = _LEAST_BATCHES
) -> list[np.ndarray]:
    """Cut n rows into batches of like length, long and short ones by turns: a function of the lengths alone.

    By turns, so that a rate in rows means something from the start.

    Args:
        lengths: Tokens of each row.
        budget: A batch has at most so many tokens, padding included, or a single row.
        least_batches: Where rows are few, the budget is less, for so many batches.

    Returns:
        The rows of each batch. Equal lengths stay in the order of the rows.
    """
    sizes = np.maximum(np.asarray(lengths, dtype=np.int64), 1)
    budget = min(budget, max(_LEAST_TOKENS, int(sizes.sum()) // least_batches))
    order = np.argsort(-sizes, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, budget // int(sizes[order[start]]))
        batches.append(order[start : start + count])
        start += count
    half = -(-len(batches) // 2)
    turns = [batches[:half], batches[half:][::-1]]
    return [rows for pair in zip_longest(*turns) for rows in pair if rows is not None]


def on_cores(work: Callable[[Item], Result], items: Sequence[Item], num_threads: int) -> Iterator[Result]:
    """Yield what `work`, of torch on the CPU, makes of each item, in order, as many at a time as there are threads.

    Each thread computes alone, on one core: small products gain little from more, and so their rounding does not depend
    on how many cores there are.
    """
    count = max(1, min(num_threads, len(items)))
    before = torch.get_num_threads()
    ready = Barrier(count + 1)
    with ThreadPoolExecutor(count, "embed") as threads:
        for _ in range(count):
            threads.submit(_compute_alone, ready)
        ready.wait()
        torch.set_num_threads(before)  # of this thread, and of those that others start from now on
        yield from threads.map(work, items)


def _compute_alone(ready: Barrier) -> None:
    torch.set_num_threads(1)
    ready.wait()
