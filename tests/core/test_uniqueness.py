"""Repeated ids are found, within a shard and across shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.core.ids import IdSpan, id_span, spans_overlap, split_by_hash
from ray_itl.core.pool import LocalPool
from tests.core.helpers import as_text, few_examples, make_shards, normal, shuffled_ids


@few_examples
@given(ids=st.lists(st.integers(-5, 5), min_size=1, max_size=8), text=st.booleans())
def test_the_span_of_ids(ids: list[int], text: bool) -> None:
    array = np.array(ids, dtype=np.int64)
    array = as_text(array) if text else array
    span = id_span(array)
    names = array.tolist()
    assert (span.first, span.last) == (min(names), max(names))
    repeated = {name for name in names if names.count(name) > 1}
    assert (span.repeated in repeated) if repeated else (span.repeated is None)


@few_examples
@given(spans=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted), min_size=1, max_size=5))
def test_overlapping_spans(spans: list[list[int]]) -> None:
    expected = any(a[0] <= b[1] and b[0] <= a[1] for i, a in enumerate(spans) for b in spans[:i])
    assert spans_overlap([IdSpan(first, last, None) for first, last in spans]) == expected


@pytest.mark.parametrize("num_parts", [1, 3, 7])
@pytest.mark.parametrize("text", [False, True], ids=["int", "text"])
def test_equal_ids_meet_in_one_part(num_parts: int, text: bool) -> None:
    ids = shuffled_ids(200, 1)
    ids = as_text(ids) if text else ids
    parts = [part.tolist() for part in split_by_hash(ids, num_parts)]
    assert sorted(name for part in parts for name in part) == sorted(ids.tolist())
    assert len(parts) == num_parts
    assert [part.tolist()[::-1] for part in split_by_hash(ids[::-1], num_parts)] == parts
    assert min(len(part) for part in parts) > 200 / num_parts / 3


@pytest.mark.parametrize("text", [False, True], ids=["int", "text"])
def test_a_pool_tells_a_repeated_id_and_where_it_stands(text: bool) -> None:
    ids = shuffled_ids(30, 1)
    ids = as_text(ids) if text else ids
    assert LocalPool(make_shards(normal(30, 2, 1), ids, 3)).repeated_id() is None
    ids[25] = ids[4]
    found = LocalPool(make_shards(normal(30, 2, 1), ids, 3)).repeated_id()
    assert found is not None
    assert found[0] == ids[4]
    assert found[1].tolist() == [4, 25]


def test_many_text_ids_in_sorted_runs() -> None:
    """NumPy's default sort ends the process on these."""
    texts = [f"{number:08d}{kind}" for kind in "nvar" for number in range(30_000)]
    ids = np.array(texts, dtype=np.dtypes.StringDType())
    assert id_span(ids) == ("00000000a", "00029999v", None)
    ids[-1] = "00012345n"
    assert id_span(ids).repeated == "00012345n"
