"""Nearest rows by cosine are those found one by one; the lowest index wins among equals."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core.explain import nearest_earlier, nearest_of
from ray_itl.errors import InputError
from tests.core.helpers import normal


def _cosines(rows: Tensor, others: Tensor) -> np.ndarray:
    """Every cosine, one by one: n x m."""
    a, b = rows.double().numpy(), others.double().numpy()
    return np.array(
        [[float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y))) if x.any() and y.any() else 0.0 for y in b] for x in a]
    )


@pytest.mark.parametrize("chunk_rows", [1, 7, None])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_nearest_agrees_with_one_by_one(chunk_rows: int | None, scale: float, count: int) -> None:
    rows, others = normal(23, 5, 1).float() * scale, normal(11, 5, 2).float()
    rows[4] = 0
    others[3] = others[1]
    found = nearest_of(rows, others, count, chunk_rows)
    expected = _cosines(rows, others).round(12)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :count]
    assert found.cosines.shape == (23, min(count, 11))
    np.testing.assert_allclose(found.cosines, np.take_along_axis(expected, order, axis=1), atol=1e-11)
    assert (found.indices[:, 0].numpy() == order[:, 0]).all()


def test_zero_rows_and_ties() -> None:
    found = nearest_of(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [3.0, 0.0]]), 2)
    assert found.indices.tolist() == [[0, 1], [0, 1]]
    assert found.cosines.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert nearest_of(torch.ones(1, 2), torch.zeros(1, 2), 1).cosines.tolist() == [[0.0]]
    assert nearest_of(torch.empty(0, 2), torch.ones(1, 2), 3).indices.shape == (0, 1)


def test_others_of_the_same_width_are_needed() -> None:
    for others in (normal(0, 3, 1), normal(2, 4, 1)):
        with pytest.raises(InputError, match="at least one"):
            nearest_of(normal(2, 3, 1), others, 1)


@pytest.mark.parametrize("chunk_rows", [1, 4, 1024])
def test_nearest_earlier_looks_at_earlier_rows_only(chunk_rows: int) -> None:
    rows = normal(11, 4, 1)
    rows[7] = rows[2]
    found = nearest_earlier(rows, chunk_rows)
    cosines = _cosines(rows, rows)
    assert found.indices[0].tolist() == [-1]
    assert bool(found.cosines[0].isnan())
    for k in range(1, 11):
        assert int(found.indices[k]) == int(cosines[k, :k].argmax())
        assert float(found.cosines[k]) == pytest.approx(cosines[k, :k].max(), abs=1e-12)
