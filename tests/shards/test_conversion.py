"""What shards store is what the plain definition gives, to the last bit, however rows are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core.features import FeatureMap, Identity, PriorCovariance, RandomFourier, UnitNorm
from ray_itl.core.linalg import squared_norms
from ray_itl.shards.conversion import as_stored, map_rows, shared
from ray_itl.shards.loading import STORAGE_DTYPES

FLOATS = (np.float16, np.float32, np.float64)


def wild_rows(num_rows: int, dim: int, dtype: type) -> np.ndarray:
    """Return finite numbers of every size: any bits that are one, subnormal ones and both zeros among them."""
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    rows = np.random.default_rng(dim).integers(0, np.iinfo(bits).max, (num_rows, dim), bits).view(dtype)
    return np.where(np.isfinite(rows), rows, dtype(-0.0))


def same_bits(got: Tensor, expected: Tensor) -> bool:
    return got.dtype == expected.dtype and got.numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("feature_map", [Identity(), UnitNorm()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("stored", STORAGE_DTYPES)
@pytest.mark.parametrize("given", FLOATS)
def test_rows_and_norms_have_the_bits_of_the_definition(given: type, stored: str, feature_map: FeatureMap) -> None:
    dtype = STORAGE_DTYPES[stored]
    for num_rows, dim in ((300, 384), (5000, 7), (1, 384), (3, 40_000), (700, 1)):
        rows = wild_rows(num_rows, dim, given)
        features, norms = as_stored(feature_map, rows, dtype)
        expected = map_rows(feature_map, rows).to(dtype)
        assert same_bits(features.view(torch.uint8), expected.contiguous().view(torch.uint8))
        assert same_bits(norms, squared_norms(expected))


def test_every_half_precision_number_is_kept() -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    rows = numbers[np.isfinite(numbers)].reshape(-1, 32)
    for stored in STORAGE_DTYPES.values():
        expected = map_rows(Identity(), rows).to(stored)
        assert same_bits(as_stored(Identity(), rows, stored)[0].view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize(
    "feature_map",
    [PriorCovariance(torch.eye(9, dtype=torch.float64)[:, :4] * 3), RandomFourier(12, 0.5, 1)],
    ids=lambda m: type(m).__name__,
)
def test_maps_that_mix_numbers_are_given_all_rows_at_once(feature_map: FeatureMap) -> None:
    rows = np.random.default_rng(0).standard_normal((9000, 9))
    features, norms = as_stored(feature_map, rows, torch.float32)
    assert same_bits(features, map_rows(feature_map, rows).float())
    assert same_bits(norms, squared_norms(features))


@pytest.mark.parametrize("feature_map", [Identity(), UnitNorm()], ids=lambda m: type(m).__name__)
def test_a_row_is_the_same_in_any_company(feature_map: FeatureMap) -> None:
    rows = wild_rows(2000, 129, np.float64)
    whole, norms = as_stored(feature_map, rows, torch.float32)
    for first in (0, 1, 1234, 1999):
        for count in (1, 2, 255):
            part = slice(first, first + count)
            some, their_norms = as_stored(feature_map, rows[part], torch.float32)
            assert same_bits(some, whole[part])
            assert same_bits(their_norms, norms[part])


def test_rows_of_the_storage_type_are_not_copied_even_where_they_are_read_only() -> None:
    rows = np.ones((5, 3), dtype=np.float32)
    rows.flags.writeable = False
    features, norms = as_stored(Identity(), rows, torch.float32)
    assert features.data_ptr() == rows.ctypes.data == shared(rows).data_ptr()
    assert norms.tolist() == [3.0] * 5
