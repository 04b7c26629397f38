"""Square-root updates against the textbook formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_itl.core import linalg
from ray_itl.core.linalg import compress_rows, condition_root_on_rows, observe_row, removed_factor, squared_norms
from ray_itl.core.posterior import Posterior, Targets
from tests.core.helpers import normal, power_law


def _conditioned(s: Tensor, rows: Tensor, noise: float) -> Tensor:
    gram = rows @ s @ rows.mT + noise * torch.eye(len(rows), dtype=torch.float64)
    return s - s @ rows.mT @ torch.linalg.solve(gram, rows @ s)


@pytest.mark.parametrize("noise", [1e-4, 1.0, 1e4], ids=str)
@pytest.mark.parametrize("num_rows", [1, 3, 6, 20])
def test_conditioning_on_rows_equals_the_textbook_formula(num_rows: int, noise: float) -> None:
    root, rows = normal(6, 6, 1), normal(num_rows, 6, 2)
    new = condition_root_on_rows(root, rows, noise)
    torch.testing.assert_close(new @ new.mT, _conditioned(root @ root.mT, rows, noise), rtol=1e-9, atol=1e-9)


def test_conditioning_one_by_one_equals_conditioning_at_once() -> None:
    root, rows = normal(6, 6, 1), normal(9, 6, 2)
    one_by_one = root
    for row in rows:
        one_by_one = observe_row(one_by_one, row, 0.3)[1]
    at_once = condition_root_on_rows(root, rows, 0.3)
    torch.testing.assert_close(one_by_one @ one_by_one.mT, at_once @ at_once.mT, rtol=1e-10, atol=1e-10)


def test_small_variances_keep_their_relative_accuracy() -> None:
    """1/v = 1 + k/s2 after k observations of e1 from a unit prior: no cancellation at noise 1e-14."""
    root, row = torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    for k in range(1, 6):
        root = observe_row(root, row, 1e-14)[1]
        variance = float(Posterior.of_root(root).variance(row[None]))
        assert variance == pytest.approx(1 / (1 + k / 1e-14), rel=1e-1 if k == 1 else 1)
        assert variance > 0
    at_once = condition_root_on_rows(torch.eye(3, dtype=torch.float64), row[None], 1e-10)
    assert float(Posterior.of_root(at_once).variance(row[None])) == pytest.approx(1e-10, rel=1e-5)


@pytest.mark.parametrize("rows", [normal(3, 6, 1), normal(10, 2, 1) @ normal(2, 6, 2)], ids=["full", "deficient"])
def test_noiseless_conditioning_leaves_nothing_in_the_rows_span_and_all_outside(rows: Tensor) -> None:
    new = condition_root_on_rows(torch.eye(6, dtype=torch.float64), rows, 0.0)
    covariance = new @ new.mT
    outside = torch.eye(6, dtype=torch.float64) - torch.linalg.pinv(rows) @ rows
    torch.testing.assert_close(covariance, outside, rtol=0, atol=1e-12)


def test_no_rows_change_nothing() -> None:
    root = normal(4, 4, 1)
    assert condition_root_on_rows(root, root[:0], 0.1) is root


@pytest.mark.parametrize("num_rows", [0, 1, 4, 5, 33])
def test_compressed_rows_have_the_same_second_moment(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linalg, "_ROWS_PER_QR", 7)
    rows = normal(num_rows, 4, 1)
    compact = compress_rows(rows)
    assert compact.shape == (min(num_rows, 4), 4)
    torch.testing.assert_close(compact.mT @ compact, rows.mT @ rows, rtol=1e-12, atol=1e-12)


def test_the_removed_factor_is_what_was_learnt_in_as_many_columns_as_its_rank() -> None:
    posterior = Posterior.prior(8).condition_on_rows(normal(3, 8, 1), 0.1)
    factor = removed_factor(posterior.root)
    assert factor.shape == (8, 3)
    covariance = posterior.root @ posterior.root.mT
    torch.testing.assert_close(torch.eye(8, dtype=torch.float64) - factor @ factor.mT, covariance)
    assert removed_factor(Posterior.prior(8).root).shape == (8, 0)


def test_squared_norms_are_summed_in_float64() -> None:
    rows = torch.full((1, 4), 300.0, dtype=torch.float16)
    assert squared_norms(rows).item() == 4 * 300.0**2


def test_a_posterior_is_never_changed_in_place() -> None:
    prior = Posterior.prior(5)
    before = prior.root.clone()
    prior.condition(normal(1, 5, 1)[0], 0.1)
    prior.condition_on_rows(normal(3, 5, 1), 0.1)
    torch.testing.assert_close(prior.root, before, rtol=0, atol=0)


def test_posterior_variance_and_covariance() -> None:
    posterior, rows = Posterior.of_root(normal(5, 5, 1)), normal(7, 5, 2)
    covariance = posterior.root @ posterior.root.mT
    torch.testing.assert_close(posterior.variance(rows), (rows @ covariance @ rows.mT).diagonal())
    torch.testing.assert_close(posterior.covariance_with(rows[0]), covariance @ rows[0])


def test_a_weight_of_two_is_the_target_listed_twice() -> None:
    rows = power_law(4, 6, 1)
    weighted = Targets(rows, torch.tensor([2.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    listed = Targets.uniform(rows[[0, 0, 1, 3]])
    assert weighted.weighted.shape == (3, 6)
    for targets in (weighted, listed):
        root = targets.moment_root()
        torch.testing.assert_close(root.mT @ root, listed.rows.mT @ listed.rows)
