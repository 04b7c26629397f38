"""Combinations that stand for all of them do have every choice of values of so many factors."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.combinations import covering


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_every_choice_is_among_few_combinations(strength: int) -> None:
    factors = [["a", "b", "c", "d"], [1, 2, 3], [None, "x"], [False, True], [False, True]]
    rows = covering(factors, strength)
    for places in combinations(range(len(factors)), strength):
        found = {tuple(row[place] for place in places) for row in rows}
        assert found == set(product(*(factors[place] for place in places)))
    assert len(rows) <= [0, 4, 14, 30][strength]
    assert rows == covering(factors, strength)
