"""k-means++ seeding: its law, and what its draws may depend on."""

from __future__ import annotations

import numpy as np
import torch

from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.rounds.picking import kmeans_plus_plus


def test_the_first_row_has_the_largest_norm_and_rows_are_distinct() -> None:
    rows = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    drawn = kmeans_plus_plus(MemoryFeatures(rows), np.arange(60), 60, seed=3)
    assert drawn[0] == int(rows.norm(dim=1).argmax())
    assert sorted(drawn) == list(range(60))


def test_the_second_row_is_drawn_in_proportion_to_squared_distance() -> None:
    # The first centre is the row at -3; squared distances of the others are 1, 4 and 16.
    rows = torch.tensor([[-3.0], [-2.0], [-1.0], [1.0]])
    seconds = [kmeans_plus_plus(MemoryFeatures(rows), np.arange(4), 2, seed)[1] for seed in range(2000)]
    shares = np.bincount(seconds, minlength=4) / 2000
    np.testing.assert_allclose(shares, [0, 1 / 21, 4 / 21, 16 / 21], atol=0.035)


def test_draws_follow_the_ids_and_not_the_order_of_rows() -> None:
    generator = torch.Generator().manual_seed(2)
    rows, ids = torch.randn(50, 3, generator=generator), np.arange(50) * 13
    order = torch.randperm(50, generator=generator)
    first = ids[kmeans_plus_plus(MemoryFeatures(rows), ids, 12, seed=7)]
    shuffled = ids[order.numpy()]
    assert (shuffled[kmeans_plus_plus(MemoryFeatures(rows[order]), shuffled, 12, seed=7)] == first).all()
    assert (ids[kmeans_plus_plus(MemoryFeatures(rows), ids, 12, seed=8)] != first).any()


def test_copies_come_last_by_id() -> None:
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    ids = np.array(["d", "b", "a", "c"], dtype=np.dtypes.StringDType())
    drawn = [str(ids[i]) for i in kmeans_plus_plus(MemoryFeatures(rows), ids, 4, seed=0)]
    assert drawn[0] == "a"  # of the two longest
    assert drawn[1] in {"c", "d"}
    assert drawn[2:] == sorted(drawn[2:])
