"""Few combinations that show what all would: every choice of values of any two or three factors is among them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

_Chosen = tuple[tuple[int, ...], tuple[int, ...]]
"""Places of factors, and the number of the value that each has."""


def covering(factors: Sequence[Sequence[Any]], strength: int) -> list[tuple[Any, ...]]:
    """Return combinations of one value of each factor that cover every choice of values of any `strength` factors.

    Greedy, and the same every time: some 1.5 times as many as the product of the `strength` longest factors.
    """
    sizes = [len(factor) for factor in factors]
    groups = list(combinations(range(len(sizes)), strength))
    left: dict[_Chosen, None] = {(g, v): None for g in groups for v in product(*(range(sizes[i]) for i in g))}
    rows = []
    while left:
        row = dict(zip(*next(iter(left)), strict=True))
        for place in range(len(sizes)):
            if place not in row:
                row[place] = max(range(sizes[place]), key=lambda value: len(_new(row | {place: value}, groups, left)))
        for chosen in _new(row, groups, left):
            del left[chosen]
        rows.append(tuple(factor[row[place]] for place, factor in enumerate(factors)))
    return rows


def _new(row: dict[int, int], groups: list[tuple[int, ...]], left: dict[_Chosen, None]) -> list[_Chosen]:
    """Return what a row, begun or whole, has of the choices that are left."""
    whole = (group for group in groups if all(place in row for place in group))
    return [chosen for group in whole if (chosen := (group, tuple(row[place] for place in group))) in left]
