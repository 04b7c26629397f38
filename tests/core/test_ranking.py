"""One-shot rankings against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.core.messages import RowBatch
from ray_itl.core.pool import LocalPool
from ray_itl.core.ranking import RankedRows, RankQuery, hash_order, round_robin, top_rows
from tests.core.helpers import as_number, as_text, few_examples, make_shards, normal, shuffled_ids, with_zeros


@few_examples
@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 30)), unique_by=lambda row: row[1], max_size=12),
    count=st.integers(1, 14),
)
def test_top_rows_break_ties_by_id(rows: list[tuple[int, int]], count: int) -> None:
    ids = np.arange(30, -1, -1)
    indices = np.array([index for _, index in rows], dtype=np.int64)
    scores = np.array([float(score) for score, _ in rows])
    top, kept = top_rows(indices, scores, ids, count)
    expected = sorted(rows, key=lambda row: (-row[0], ids[row[1]]))[:count]
    assert top.tolist() == [index for _, index in expected]
    assert kept.tolist() == [score for score, _ in expected]


def _cosine_pool() -> tuple[torch.Tensor, np.ndarray]:
    rows = with_zeros(normal(80, 5, 1), 0.1, 2)
    rows[10:20] = rows[30]
    rows[20:30] = 4 * rows[31]
    return rows.to(torch.float32), shuffled_ids(80, 3)


@pytest.mark.parametrize("count", [1, 7, 80, 100])
@pytest.mark.parametrize("num_shards", [1, 4])
@pytest.mark.parametrize("text", [False, True], ids=["int", "text"])
def test_cosine_equals_brute_force(count: int, num_shards: int, text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_itl.core.feature_store.chunk_rows_for", lambda _: 16)
    rows, ids = _cosine_pool()
    directions = torch.nn.functional.normalize(normal(3, 5, 4), dim=1)
    shards = make_shards(rows, as_text(ids) if text else ids, num_shards)
    ranked = LocalPool(shards).rank(RankQuery("cosine", directions, count))
    norms = rows.double().norm(dim=1)
    for q, direction in enumerate(directions):
        cosine = (rows.double() @ direction / norms.where(norms > 0, 1.0)).numpy()
        expected = sorted(range(80), key=lambda i: (-round(cosine[i], 8), ids[i]))[:count]
        assert ranked.rows.positions[ranked.lists[q]].tolist() == expected
        assert [as_number(i) for i in ranked.rows.ids[ranked.lists[q]].tolist()] == ids[expected].tolist()
        np.testing.assert_allclose(ranked.scores[q], cosine[expected], atol=1e-9)
    torch.testing.assert_close(ranked.rows.features, rows[ranked.rows.positions])


def test_every_list_reads_distinct_rows_once() -> None:
    rows, ids = _cosine_pool()
    ranked = LocalPool(make_shards(rows, ids, 3)).rank(RankQuery("cosine", normal(4, 5, 1), 9))
    assert len(set(ranked.rows.positions.tolist())) == len(ranked.rows)


@pytest.mark.parametrize("text", [False, True], ids=["int", "text"])
def test_random_depends_on_seed_and_ids_alone(text: bool) -> None:
    rows, ids = _cosine_pool()
    ids = as_text(ids) if text else ids
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))

    def draw(seed: int, num_shards: int, *, shuffled: bool) -> list[int | str]:
        pool, names = (rows[order], ids[order.numpy()]) if shuffled else (rows, ids)
        query = RankQuery("random", torch.zeros(1, 5, dtype=torch.float64), 20, seed)
        ranked = LocalPool(make_shards(pool, names, num_shards)).rank(query)
        return ranked.rows.ids[ranked.lists[0]].tolist()

    first = draw(1, 1, shuffled=False)
    assert len(set(first)) == 20
    assert first == draw(1, 5, shuffled=True) == draw(1, 2, shuffled=False)
    assert first != draw(2, 1, shuffled=False)


@pytest.mark.parametrize("text", [False, True], ids=["int", "text"])
def test_the_hash_is_uniform_and_differs_by_seed(text: bool) -> None:
    ids = np.arange(-2000, 2000, dtype=np.int64)
    values = hash_order(as_text(ids) if text else ids, seed=5)
    other = hash_order(as_text(ids) if text else ids, seed=6)
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, bins=16, range=(0, 1))[0]
    assert ((counts - 250) ** 2 / 250).sum() < 45
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.06
    assert len(np.unique(values)) == 4000


def _ranked(lists: list[list[int]], num_rows: int) -> RankedRows:
    none = torch.zeros(num_rows, dtype=torch.float64)
    rows = RowBatch(np.arange(num_rows), np.arange(num_rows), torch.zeros(num_rows, 1), (), none, none)
    arrays = [np.array(rows_of, dtype=np.int64) for rows_of in lists]
    return RankedRows(arrays, [-np.arange(len(a)).astype(float) for a in arrays], rows)


@few_examples
@given(lists=st.lists(st.permutations(range(7)), min_size=1, max_size=4), length=st.integers(1, 7), n=st.integers(1, 7))
def test_round_robin_equals_the_obvious_loop(lists: list[list[int]], length: int, n: int) -> None:
    lists = [rows[:length] for rows in lists]
    expected: list[int] | None = []
    while expected is not None and len(expected) < n:
        for rows in lists:
            left = [row for row in rows if row not in expected]
            if not left:
                expected = None
                break
            expected.append(left[0])
            if len(expected) == n:
                break
    dealt = round_robin(_ranked(lists, 7), n)
    if expected is None:
        assert dealt is None
    else:
        assert dealt is not None
        assert dealt[0].tolist() == expected
        assert len(dealt[1]) == n
