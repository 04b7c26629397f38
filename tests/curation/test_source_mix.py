"""The mix of a column: shares in picks and sample, of columns that hold few values."""

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.curation.report import source_mixes
from ray_itl.report.selection_data import Mix
from ray_itl.sources.open import open_source


def mixes(columns: dict, picked: list[int], sample: list[int]) -> list[Mix]:
    n = len(next(iter(columns.values())))
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2 * n, np.float32)), 2)
    table = pa.table({"id": pa.array(np.arange(n)), "embedding": embedding, **columns})
    source = open_source(table, id_column="id", columns=list(columns))
    return source_mixes(source, np.array(picked), np.array(sample), list(columns))


def test_shares_of_picks_and_sample() -> None:
    (mix,) = mixes({"source": ["web", "web", "book", None] * 3}, [0, 1, 2, 6], [0, 1, 2, 3])
    assert mix == Mix("source", ["book", "web", "(missing)"], [0.5, 0.5, 0.0], [0.25, 0.5, 0.25], 4)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        (pa.array(["a", "b"] * 10).dictionary_encode(), True),
        (pa.array([True, False] * 10), True),
        (pa.array([1, 2] * 10), True),
        (pa.array(["same"] * 20), False),
        (pa.array([f"name {k}" for k in range(20)]), False),
        (pa.array([0.5, 1.5] * 10), False),
        (pa.array([[1], [2]] * 10), False),
        (pa.array([None] * 20), False),
    ],
)
def test_columns_of_few_values_count(values: pa.Array, counts: bool) -> None:
    assert bool(mixes({"column": values}, [0, 1, 2, 3], list(range(20)))) == counts


def test_many_values_are_put_together() -> None:
    values = [f"v{k:02d}" for k in range(20)] * 5
    (mix,) = mixes({"column": values}, [0, 20, 40], list(range(100)))
    assert len(mix.values) == 11
    assert (mix.values[0], mix.values[-1]) == ("v00", "(all others)")
    assert sum(mix.in_picks) == pytest.approx(1)
    assert sum(mix.in_pool) == pytest.approx(1)
    assert mix.in_pool[-1] == pytest.approx(0.5)


def test_without_a_sample_or_columns_there_is_nothing() -> None:
    assert mixes({"source": ["web", "book"]}, [0], []) == []
