import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.sources import condition as row_mask
from ray_itl.sources.condition import RowMask

_pieces = st.lists(st.lists(st.booleans(), max_size=40), max_size=8)


@settings(max_examples=200)
@given(st.data(), _pieces)
def test_rows_and_their_numbers(data, pieces):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_mask, "_BLOCK", 16)
        patch.setattr(row_mask, "_PIECE", 24)
        mask = pickle.loads(pickle.dumps(RowMask.of(np.array(piece, dtype=bool) for piece in pieces)))
        kept = np.array([bit for piece in pieces for bit in piece], dtype=bool)
        rows = np.flatnonzero(kept)
        start = data.draw(st.integers(0, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        assert (mask.num_rows, mask.count, mask.is_full) == (len(kept), len(rows), bool(kept.all()))
        np.testing.assert_array_equal(mask.rows_between(start, stop), rows[start:stop])
        if len(rows):
            numbers = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), dtype=np.int64)
            np.testing.assert_array_equal(mask.rows(numbers), rows[numbers])
        first = data.draw(st.integers(0, len(kept)))
        last = data.draw(st.integers(first, len(kept)))
        np.testing.assert_array_equal(mask.slice(first, last), kept[first:last])
        np.testing.assert_array_equal(np.concatenate([[], *mask.pieces(first, last)]), kept[first:last])
        assert mask.number(first) == np.count_nonzero(kept[:first])


def test_numbers_that_are_not_there():
    mask = RowMask.of([np.array([True, False, True])])
    with pytest.raises(IndexError, match="rows 1 to 3 are not within a pool of 2 rows"):
        mask.rows_between(1, 3)


def test_a_large_mask_takes_a_bit_a_row():
    mask = RowMask.of(np.arange(1 << 18) % 3 == part for part in (0, 1))
    assert mask.count == 87_382 + 87_381
    assert len(pickle.dumps(mask)) < (1 << 19) / 8 * 1.1
    np.testing.assert_array_equal(mask.rows(np.array([90_000, 0])), [(1 << 18) + 1 + 3 * (90_000 - 87_382), 0])
