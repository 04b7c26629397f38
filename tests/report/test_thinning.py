"""Thinned curves and maps keep what the eye needs."""

import numpy as np
import pytest

from ray_itl.report.figures import curve_points, early_points, even_points


@pytest.mark.parametrize("count", [1, 1200, 1201, 10_000])
def test_curve_keeps_ends_and_is_bounded(count: int):
    kept = curve_points(np.arange(count, dtype=float))
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert len(kept) <= 1200
    assert (np.diff(kept) > 0).all()


@pytest.mark.parametrize("spike", [3, 5_001, 9_998])
@pytest.mark.parametrize("height", [-1.0, 1.0])
def test_curve_keeps_every_spike(spike: int, height: float):
    values = np.zeros(10_000)
    values[spike] = height
    assert spike in curve_points(values)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 10_000])
def test_points_of_a_map(count: int):
    for kept in (even_points(count, 100), early_points(count, 100)):
        assert len(kept) == min(count, 100)
        assert (np.diff(kept) > 0).all()
        assert set(kept.tolist()) <= set(range(count))
    assert early_points(count, 100)[:50].tolist() == list(range(min(count, 50)))
