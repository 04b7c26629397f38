"""Laws of the map and of the nearest target."""

import numpy as np
import pytest
import torch

from ray_itl.errors import InputError
from ray_itl.report.projection import project


def rows(count: int, num_dims: int, seed: int = 0) -> torch.Tensor:
    """(count, num_dims) rows whose variance falls from one direction to the next."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, num_dims + 1, dtype=torch.float64) ** -1.0
    return torch.randn(count, num_dims, dtype=torch.float64, generator=generator) * scales


@pytest.mark.parametrize("num_dims", [2, 3, 40, 300])
def test_agrees_with_a_dense_decomposition(num_dims: int):
    pool, targets, picks = rows(200, num_dims), rows(9, num_dims, 1) + 2, rows(4, num_dims, 2)
    made = project(pool, targets, picks)

    center = (pool.mean(0) + targets.mean(0)) / 2
    covariance = sum((part - center).T @ (part - center) / (2 * len(part)) for part in (pool, targets))
    values, vectors = torch.linalg.eigh(torch.as_tensor(covariance))
    np.testing.assert_allclose(made.explained, float(values[-2:].sum() / values.sum()), rtol=1e-9)
    overlap = torch.as_tensor(made.directions).T @ vectors[:, [-1, -2]]
    np.testing.assert_allclose(overlap.abs().numpy(), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(made.picks, ((picks - center).numpy() @ made.directions), atol=1e-12)


@pytest.mark.parametrize("num_dims", [1, 2, 40])
@pytest.mark.parametrize("counts", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (50, 3, 7)])
def test_directions_are_orthonormal_and_share_is_a_share(num_dims: int, counts: tuple[int, int, int]):
    made = project(*(rows(count, num_dims, seed).float() for seed, count in enumerate(counts)))
    width = min(2, num_dims)
    np.testing.assert_allclose(made.directions.T @ made.directions, np.eye(width), atol=1e-12)
    assert 0 <= made.explained <= 1
    assert [len(made.pool), len(made.targets), len(made.picks)] == list(counts)
    assert made.picks.shape[1] == 2
    assert np.isfinite(made.picks).all()


def test_order_of_rows_does_not_matter():
    pool, targets, picks = rows(200, 20), rows(9, 20, 1), rows(30, 20, 2)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    made, shuffled = project(pool, targets, picks), project(pool[order], targets.flip(0), picks.flip(0))
    np.testing.assert_allclose(shuffled.picks[::-1], made.picks, atol=1e-9)
    np.testing.assert_allclose(shuffled.pool, made.pool[order.numpy()], atol=1e-9)
    np.testing.assert_allclose(shuffled.explained, made.explained, atol=1e-12)


def test_sign_does_not_hang_on_rounding():
    pool = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.1, 0.1], [-0.1, -0.1]])
    for nudge in (-1e-12, 0.0, 1e-12):
        made = project(pool.double() + torch.tensor([nudge, 0.0]) * pool, pool[:0], pool[:0])
        np.testing.assert_allclose(made.directions[:, 0], [0.5**0.5, -(0.5**0.5)], atol=1e-9)


def test_groups_weigh_the_same_whatever_their_size():
    pool, targets, picks = rows(50, 6), rows(5, 6, 1) + 1, rows(3, 6, 2)
    made, repeated = project(pool, targets, picks), project(pool.repeat(10, 1), targets, picks)
    np.testing.assert_allclose(repeated.picks, made.picks, atol=1e-9)


def test_rows_all_alike():
    same = torch.ones(4, 3)
    made = project(same, same, same)
    assert made.explained == 1
    np.testing.assert_allclose(made.picks, 0, atol=1e-12)


def test_widths_that_differ_and_nothing_to_fit_are_refused():
    with pytest.raises(InputError, match=r"\[3, 2, 3\]"):
        project(rows(4, 3), rows(4, 2), rows(1, 3))
    with pytest.raises(InputError, match="at least one"):
        project(rows(0, 3), rows(0, 3), rows(1, 3))
