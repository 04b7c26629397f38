"""The challenger list: bounded, and complete for the steps it claims."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.core.collectors import ChallengerList
from tests.core.helpers import few_examples

_STEPS = 6


@few_examples
@given(
    firsts=st.lists(st.lists(st.integers(0, _STEPS - 1), max_size=9), max_size=6),
    later=st.integers(0, 2**_STEPS - 1),
    limit=st.integers(0, 12),
)
def test_complete_below_the_verified_steps_and_bounded(firsts: list[list[int]], later: int, limit: int) -> None:
    found = ChallengerList(_STEPS, limit)
    start = 0
    for chunk in firsts:
        if not chunk:
            continue
        indices = torch.arange(start, start + len(chunk))
        challenges = torch.tensor([[k == f or (k > f and bool(later >> k & 1)) for k in range(_STEPS)] for f in chunk])
        found.add(indices, challenges, (indices.double(), -indices.double()))
        start += len(chunk)
    indices, scores = found.result(2)
    flat = [first for chunk in firsts for first in chunk]
    expected = [i for i, first in enumerate(flat) if first < found.verified_steps]
    assert indices.tolist() == expected
    assert scores[0].tolist() == expected
    assert (-scores[1]).tolist() == expected
    assert len(expected) <= limit
    # Cut no further than needed: one step more would have been too many rows.
    if found.verified_steps < _STEPS:
        assert sum(first <= found.verified_steps for first in flat) > limit


def test_no_rows() -> None:
    found = ChallengerList(4, 10)
    indices, scores = found.result(2)
    assert found.verified_steps == 4
    assert len(indices) == len(scores[0]) == len(scores[1]) == 0
