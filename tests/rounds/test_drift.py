"""Drift: what leaves a kernel alone counts as none, and hand-worked values."""

from __future__ import annotations

import math

import pytest
import torch

from ray_itl.errors import InputError
from ray_itl.rounds.features import measure_drift

ROWS = torch.randn(40, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_nothing_moved() -> None:
    drift = measure_drift(ROWS.float(), ROWS.float())
    assert drift.mean_cosine == pytest.approx(1)
    assert drift.kernel_change == pytest.approx(0)
    assert drift.cka == pytest.approx(1)


def test_a_rotation_moves_rows_but_not_the_kernel() -> None:
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
    drift = measure_drift(ROWS, ROWS @ rotation)
    assert drift.kernel_change == pytest.approx(0, abs=1e-12)
    assert drift.cka == pytest.approx(1)
    assert drift.mean_cosine < 0.9


def test_scale_changes_the_kernel_but_not_its_alignment() -> None:
    drift = measure_drift(ROWS, 2 * ROWS)
    assert drift.mean_cosine == pytest.approx(1)
    assert drift.kernel_change == pytest.approx(3)  # |K - 4K| / |K|
    assert drift.cka == pytest.approx(1)


def test_unrelated_rows() -> None:
    other = torch.randn(40, 9, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    drift = measure_drift(ROWS, other)
    assert math.isnan(drift.mean_cosine)
    assert 0 < drift.cka < 0.6


def test_other_numbers_of_rows_are_refused() -> None:
    with pytest.raises(InputError, match="40 and one 39"):
        measure_drift(ROWS, ROWS[1:])
