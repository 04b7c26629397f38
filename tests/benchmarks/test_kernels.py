"""Kernels and their features: what laws they keep, and that greedy selection by a kernel is that by its definition."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.kernels import (
    AnchoredFourier,
    ArcCosine,
    Kernel,
    TensorSketch,
    arc_cosine,
    greedy_picks,
    polynomial,
    rbf,
)
from ray_itl.core.features import FeatureMap, RandomFourier, UnitNorm
from ray_itl.core.posterior import Targets
from tests.core.helpers import normal
from tests.oracle import dense_greedy

R = 2048
MAPS: dict[str, tuple[Callable[[int], FeatureMap], Kernel]] = {
    "rbf": (lambda seed: RandomFourier(R, 0.6, seed), rbf(0.6)),
    "arc_cosine": (lambda seed: ArcCosine(R, seed), arc_cosine),
    "polynomial": (lambda seed: TensorSketch(R, 4, seed), polynomial(4)),
    "anchored": (lambda seed: AnchoredFourier(RandomFourier(R, 0.6, seed), unit(5, 99)), rbf(0.6)),
}


def unit(num_rows: int, seed: int) -> Tensor:
    return UnitNorm()(normal(num_rows, 6, seed))


@pytest.mark.parametrize("name", [name for name in MAPS if name != "polynomial"])
@given(seed=st.integers(0, 2**20))
@settings(deadline=None, max_examples=10)
def test_features_stand_for_their_kernel(name: str, seed: int) -> None:
    features_of, kernel = MAPS[name]
    rows = unit(12, seed)
    exact = kernel(rows @ rows.mT)
    found = features_of(seed)(rows)
    assert found.shape == (12, features_of(seed).dim(6))
    torch.testing.assert_close(exact.diagonal(), torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-7)
    assert float(torch.linalg.eigvalsh(exact).min()) > -1e-9
    # Six standard errors and more: one of a product of features is at most 2.3 / sqrt(R) here.
    assert float((found @ found.mT - exact).abs().max()) < 15 / R**0.5


def test_sketches_stand_for_their_kernel_in_the_mean() -> None:
    rows = unit(12, 1)  # of so few numbers that a single sketch errs by far more than 1 / sqrt(R) now and then
    sketches = [TensorSketch(256, 3, seed)(rows) for seed in range(400)]
    mean = torch.stack([found @ found.mT for found in sketches]).mean(dim=0)
    torch.testing.assert_close(mean, polynomial(3)(rows @ rows.mT), rtol=0, atol=0.03)


@pytest.mark.parametrize("name", MAPS)
def test_the_seed_decides_and_company_does_not(name: str) -> None:
    features_of, _ = MAPS[name]
    rows = torch.cat([unit(5, 1), torch.zeros(1, 6, dtype=torch.float64)])
    features = features_of(3)(rows)
    assert torch.equal(features_of(3)(rows), features)
    torch.testing.assert_close(features_of(3)(rows[2:]), features[2:], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(features_of(4)(rows), features)
    assert bool(torch.isfinite(features).all())


def test_anchored_features_are_exact_between_an_anchor_and_any_row() -> None:
    anchors, rows = unit(5, 99), unit(40, 1)
    anchors = torch.cat([anchors, anchors[:1]])  # one listed twice
    feature_map = AnchoredFourier(RandomFourier(64, 0.6), anchors)
    found = feature_map(rows)
    torch.testing.assert_close(found @ feature_map(anchors).mT, rbf(0.6)(rows @ anchors.mT), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.square().sum(dim=1), torch.ones(40, dtype=torch.float64))


@pytest.mark.parametrize("rule", ["itl", "vtl"])
def test_picks_by_a_kernel_are_those_of_its_definition(rule: str) -> None:
    pool, targets = unit(60, 1), unit(4, 2)
    expected = dense_greedy(rule, pool, np.arange(60), Targets.uniform(targets), 12, 0.1)
    assert greedy_picks(lambda cosines: cosines, pool, targets, 12, 0.1, rule) == [pick.index for pick in expected]
