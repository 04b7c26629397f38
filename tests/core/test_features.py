"""Feature maps: what kernel they stand for, at every scale of row."""

from __future__ import annotations

import pytest
import torch

from ray_itl.core.features import Identity, PriorCovariance, RandomFourier, UnitNorm
from ray_itl.errors import ConfigError, InputError
from tests.core.helpers import normal


def test_identity_is_the_linear_kernel() -> None:
    rows = normal(3, 4, 1)
    assert Identity()(rows) is rows
    assert Identity().dim(4) == 4


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-160, 1.0, 1e160, 1e300], ids=str)
def test_unit_norm_at_every_scale(scale: float) -> None:
    rows = torch.tensor([[3.0, -4.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    if scale == 5e-324:
        rows = rows.round()
    expected = rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(UnitNorm()(rows * scale), expected, rtol=1e-14, atol=1e-14)
    assert UnitNorm().dim(3) == 3


def test_unit_norm_leaves_a_zero_row_zero() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
    assert UnitNorm()(rows).tolist() == [[0.0, 0.0], [0.0, -1.0]]


@pytest.mark.parametrize("rank", [5, 2])
def test_prior_covariance_is_the_kernel_x_sigma_x(rank: int) -> None:
    half, rows = normal(5, rank, 1), normal(6, 5, 2)
    sigma = half @ half.mT
    feature_map = PriorCovariance.from_covariance(sigma)
    features = feature_map(rows)
    assert features.shape == (6, feature_map.dim(5))
    torch.testing.assert_close(features @ features.mT, rows @ sigma @ rows.mT)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.ones(2, 3), "square"),
        (torch.ones(3), "square"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), "finite"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "smallest eigenvalue is -1"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(matrix: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PriorCovariance.from_covariance(matrix)


def test_a_covariance_for_other_embeddings_is_refused() -> None:
    with pytest.raises(InputError, match="3 dimensions, the embeddings have 4"):
        PriorCovariance.from_covariance(torch.eye(3)).dim(4)


def test_random_fourier_features_approximate_the_rbf_kernel() -> None:
    rows = normal(20, 5, 1)
    exact = (-torch.cdist(rows, rows).square() / (2 * 2.5**2)).exp()
    errors = []
    for num_features in (64, 4096):
        features = RandomFourier(num_features, lengthscale=2.5, seed=3)(rows)
        assert features.shape == (20, num_features)
        torch.testing.assert_close(features.square().sum(dim=1), torch.ones(20, dtype=torch.float64))
        errors.append(float((features @ features.mT - exact).abs().max()))
    assert errors[1] < 0.06
    assert errors[1] < errors[0] / 3


def test_random_fourier_features_are_decided_by_the_seed() -> None:
    rows = normal(4, 5, 1)
    features = RandomFourier(32, 1.0, seed=3)(rows)
    assert torch.equal(RandomFourier(32, 1.0, seed=3)(rows), features)
    torch.testing.assert_close(RandomFourier(32, 1.0, seed=3)(rows[2:]), features[2:])
    assert not torch.allclose(RandomFourier(32, 1.0, seed=4)(rows), features)


@pytest.mark.parametrize(("num_features", "lengthscale"), [(7, 1.0), (0, 1.0), (8, 0.0), (8, float("nan"))])
def test_impossible_random_fourier_features_are_refused(num_features: int, lengthscale: float) -> None:
    with pytest.raises(ConfigError, match=r"num_features|lengthscale"):
        RandomFourier(num_features, lengthscale)


@pytest.mark.parametrize("num_features", [2, 8])
def test_dim_is_the_number_of_columns(num_features: int) -> None:
    feature_map = RandomFourier(num_features, 1.0)
    assert feature_map(normal(3, 5, 1)).shape[1] == feature_map.dim(5)
