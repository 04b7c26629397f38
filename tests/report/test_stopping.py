"""Where to stop: by the obvious loop, and in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.report.selection_charts import SMALL, end_in_words, sensible_end
from tests.core.helpers import few_examples


def obvious(gains: list[float]) -> int:
    for k in range(1, len(gains) + 1):
        if all(later < SMALL * sum(gains[:k]) / k for later in gains[k:]):
            return k
    return len(gains)


@few_examples
@given(st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 1.5, 30.0]), min_size=1, max_size=8))
def test_it_is_the_first_after_which_every_pick_adds_little(gains: list[float]) -> None:
    end = sensible_end(np.array(gains))
    if end is None:
        assert obvious(gains) == len(gains) or sum(gains) == 0
    else:
        assert end.picks == obvious(gains) < len(gains)
        assert end.share == pytest.approx(sum(gains[: end.picks]) / sum(gains))


def test_a_late_rise_is_not_overlooked() -> None:
    assert sensible_end(np.array([1.0, 0.01, 0.01, 0.5])) is None


def test_in_words() -> None:
    assert "One pick alone" in end_in_words(np.ones(1))
    assert end_in_words(np.ones(5)).startswith("No sensible end yet")
    assert end_in_words(np.array([1.0, 0.01])).startswith("1 pick would do: they give 99% of all")
