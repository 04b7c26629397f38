"""Shares of a gain by target are those of the gains that each target alone would give, by the dense definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core import explain as module
from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.explain import target_shares
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.reference import condition_kernel, dense_gains, dense_kernel
from tests.core.helpers import normal

_NOISE = 0.3
_RULES: list[tuple[Acquisition, str, float]] = [
    (InformationGain(_NOISE), "itl", _NOISE),
    (InformationGain(_NOISE, target_noise_variance=0.0), "itl", 0.0),
    (InformationGain(_NOISE, target_noise_variance=2.0), "itl", 2.0),
    (VarianceReduction(_NOISE), "vtl", _NOISE),
    (Uncertainty(_NOISE), "itl", _NOISE),
]


def _directions(picks: Tensor, posterior: Posterior) -> Tensor:
    columns = []
    for row in picks:
        columns.append(posterior.covariance_with(row) / (posterior.variance(row[None])[0] + _NOISE).sqrt())
        posterior = posterior.condition(row, _NOISE)
    return torch.stack(columns, dim=1)


def _dense_shares(picks: Tensor, targets: Targets, known: Tensor, rule: str, target_noise: float) -> Tensor:
    """The gain of every pick for every target alone, as shares: n x M."""
    kernel, n = dense_kernel(picks, targets, known, _NOISE), len(picks)
    rows = []
    for step in range(n):
        alone = []
        for a in range(len(targets.rows)):
            some = [*range(n), n + a]
            weights = targets.weights[a : a + 1]
            one = kernel[some][:, some]
            worth = float(weights) > 0
            alone.append(float(dense_gains(rule, one, n, weights, _NOISE, target_noise)[step]) if worth else 0.0)
        rows.append(torch.tensor(alone, dtype=torch.float64))
        kernel = condition_kernel(kernel, step, _NOISE)
    gains = torch.stack(rows)
    return gains / gains.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("acquisition", "rule", "target_noise"), _RULES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("chunk", [30, 1 << 23])
def test_shares_are_those_of_the_definition(
    acquisition: Acquisition, rule: str, target_noise: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ENTRIES", chunk)
    picks, known = normal(6, 5, 1), normal(3, 5, 2)
    targets = Targets(normal(13, 5, 3), torch.tensor([0.0, 1.0, 2.0, 0.5] * 3 + [1.0], dtype=torch.float64))
    posterior = Posterior.prior(5).condition_on_rows(known, _NOISE)
    found = target_shares(acquisition, posterior, targets, _directions(picks, posterior), 4)
    expected = _dense_shares(picks, targets, known, rule, target_noise)
    values, order = expected.sort(dim=1, descending=True, stable=True)
    assert found.indices.tolist() == order[:, :4].tolist()
    np.testing.assert_allclose(found.shares, values[:, :4], rtol=1e-8)


def test_for_vtl_the_shares_are_parts_of_the_gain_itself() -> None:
    picks, targets, acquisition = normal(4, 5, 1), Targets.uniform(normal(3, 5, 3)), VarianceReduction(_NOISE)
    posterior = Posterior.prior(5)
    found = target_shares(acquisition, posterior, targets, _directions(picks, posterior), 3)
    np.testing.assert_allclose(found.shares.sum(dim=1), 1.0)
    state = acquisition.start(posterior, targets)
    alone = [
        float(acquisition.gain(acquisition.start(posterior, Targets.uniform(row[None])).scores(picks[:1])))
        for row in targets.rows
    ]
    gain = float(acquisition.gain(state.scores(picks[:1])))
    np.testing.assert_allclose(sorted(found.shares[0] * gain), sorted(alone), rtol=1e-9)


def test_targets_count_as_much_as_their_tasks() -> None:
    picks, targets, acquisition = normal(4, 5, 1), Targets.uniform(normal(3, 5, 3)), VarianceReduction(_NOISE)
    posterior = Posterior.prior(5)
    directions = _directions(picks, posterior)
    importance = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    found = target_shares(acquisition, posterior, targets, directions, 3, importance)
    as_weights = target_shares(acquisition, posterior, Targets(targets.rows, importance), directions, 3)
    np.testing.assert_allclose(found.shares, as_weights.shares)
    assert found.indices.tolist() == as_weights.indices.tolist()
    assert found.indices.tolist() != target_shares(acquisition, posterior, targets, directions, 3).indices.tolist()


def test_more_targets_than_there_are_and_targets_known_already() -> None:
    pick = torch.eye(3, dtype=torch.float64)[:1]
    targets = Targets.uniform(torch.eye(3, dtype=torch.float64)[[1, 0, 2]])
    exact = InformationGain(_NOISE, target_noise_variance=0.0)
    prior = Posterior.prior(3)
    found = target_shares(exact, prior, targets, _directions(pick, prior), 5)
    assert found.indices.tolist() == [[1, 0, 2]]
    assert found.shares.tolist() == [[1.0, 0.0, 0.0]]
    known = prior.condition_on_rows(targets.rows[1:2], 0.0)
    assert target_shares(exact, known, targets, _directions(pick, known), 5).shares.tolist() == [[0.0, 0.0, 0.0]]
