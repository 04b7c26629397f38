"""Near rows are those of a comparison one by one, however the pool is split; rounding never decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.core import near_rows
from ray_itl.core.near_rows import NearQuery, near_among
from ray_itl.core.pool import LocalPool
from ray_itl.core.rules import unit_rows
from tests.core.helpers import make_shards, normal


def _one_by_one(rows: torch.Tensor, others: torch.Tensor, limit: float) -> list[tuple[int, int]]:
    """Each near row with the first of its nearest others, from cosines rounded as everywhere in the engine."""
    found = []
    for i, x in enumerate(rows.double().numpy()):
        cosines = [
            round(float(x @ y) / float(np.linalg.norm(x) * np.linalg.norm(y)) * 2**32) if x.any() and y.any() else 0
            for y in others.double().numpy()
        ]
        best = max(cosines)
        if best >= limit * 2**32:
            found.append((i, cosines.index(best)))
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    num_shards=st.integers(1, 4),
    limit=st.sampled_from([1.0, 0.999, 0.9, 0.5]),
    scale=st.sampled_from([1.0, 1e-3]),
)
def test_they_are_those_of_a_comparison_one_by_one(
    seed: int, dtype: torch.dtype, num_shards: int, limit: float, scale: float
) -> None:
    rows, others = normal(60, 6, seed).to(dtype), normal(9, 6, seed + 1).to(dtype).double()
    rows[::7] = (others[torch.arange(len(rows[::7])) % 9] * scale).to(dtype)
    rows[5], others[2], others[4] = 0, 0, others[3]
    query = NearQuery(unit_rows(others), limit)
    found = LocalPool(make_shards(rows, np.arange(60), num_shards)).near(query)
    assert list(zip(found.positions.tolist(), found.nearest.tolist(), strict=True)) == _one_by_one(rows, others, limit)
    assert (found.similarities >= limit).all()


def test_rows_just_beside_a_limit_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines that float32 cannot tell from the limit are decided in float64."""
    monkeypatch.setattr(near_rows, "_CHUNK_CELLS", 8)
    angle = np.arccos(0.98)
    angles = torch.tensor([angle - 1e-8, angle + 1e-8, angle - 1e-3, angle + 1e-3], dtype=torch.float64)
    rows = torch.stack([angles.cos(), angles.sin()], dim=1) * 1e18
    query = NearQuery(torch.tensor([[0.0, -1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), 0.98)
    assert LocalPool(make_shards(rows, np.arange(4), 2)).near(query).positions.tolist() == [0, 2]
    assert near_among(rows, query).nearest.tolist() == [1, 1]


def test_rows_in_which_nothing_is_finite_in_float32_are_found() -> None:
    rows = torch.tensor([[1e300, 1e300], [1e-300, 1e-300], [1e300, -1e300]], dtype=torch.float64)
    query = NearQuery(unit_rows(torch.ones(1, 2)), 1.0)
    assert LocalPool(make_shards(rows, np.arange(3), 1)).near(query).positions.tolist() == [0, 1]
