"""Both forms of a posterior against the textbook formulas, in every order and across the border between them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core.basis import Basis
from ray_itl.core.posterior import Posterior, Targets, directions, remaining_uncertainty, target_variance
from ray_itl.core.roots import DenseRoot, SpanRoot
from ray_itl.distributed.codec import pack, unpack
from tests.core.helpers import few_examples, normal

CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


def identity(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64)


def dense_prior(dim: int) -> Posterior:
    return Posterior.of_root(identity(dim))


def rank(posterior: Posterior) -> int | str:
    return posterior.form.basis.size if isinstance(posterior.form, SpanRoot) else "dense"


def textbook(dim: int, observed: list[tuple[Tensor, float]]) -> Tensor:
    """(I + sum Y'Y / s2)^-1, from the singular values of all rows: an inverse would round by its condition."""
    rows = torch.cat([torch.empty(0, dim, dtype=torch.float64), *(rows / noise**0.5 for rows, noise in observed)])
    _, sigma, vt = torch.linalg.svd(rows, full_matrices=False)
    return identity(dim) - vt.mT * (sigma**2 / (1 + sigma**2)) @ vt


def assert_is(posterior: Posterior, covariance: Tensor) -> None:
    """All that a posterior tells, against S."""
    rows = normal(7, len(covariance), 99)
    torch.testing.assert_close(posterior.root @ posterior.root.mT, covariance, **CLOSE)
    torch.testing.assert_close(posterior.variance(rows), (rows @ covariance @ rows.mT).diagonal(), **CLOSE)
    torch.testing.assert_close(posterior.covariance_with(rows), rows @ covariance, **CLOSE)
    torch.testing.assert_close(posterior.covariance_with(rows[0]), covariance @ rows[0], **CLOSE)
    seen = posterior.whitened(rows)
    torch.testing.assert_close(seen @ seen.mT, rows @ covariance @ rows.mT, **CLOSE)
    factor = posterior.removed_factor()
    torch.testing.assert_close(identity(len(covariance)) - factor @ factor.mT, covariance, **CLOSE)
    direction, after = posterior.observe(rows[1], 0.3)
    torch.testing.assert_close(direction, covariance @ rows[1] / (rows[1] @ covariance @ rows[1] + 0.3).sqrt(), **CLOSE)
    torch.testing.assert_close(posterior.direction(rows[1], 0.3), direction, rtol=1e-13, atol=1e-13)
    fallen = covariance - torch.outer(direction, direction)
    torch.testing.assert_close(after.root @ after.root.mT, fallen, **CLOSE)


@st.composite
def observations(draw: st.DrawFn) -> tuple[int, list[tuple[Tensor, float]]]:
    """Batches of rows of few values: zeros, copies, multiples and sums of others among them, of any norm."""
    dim = draw(st.integers(1, 9))
    basis, number = normal(4, dim, draw(st.integers(0, 9))), st.integers(-2, 2)
    batches = []
    for _ in range(draw(st.integers(0, 4))):
        parts = draw(st.lists(st.tuples(number, number, number, number), min_size=0, max_size=12))
        parts = torch.tensor(parts, dtype=torch.float64).reshape(-1, 4)
        scales = torch.tensor([10.0 ** draw(st.integers(-3, 2)) for _ in parts], dtype=torch.float64)
        batches.append((parts @ basis * scales[:, None], draw(st.sampled_from([0.1, 1.0, 30.0]))))
    return dim, batches


@pytest.mark.parametrize("prior", [Posterior.prior, dense_prior], ids=["span", "dense"])
@few_examples
@given(observed=observations(), data=st.data())
def test_observing_in_any_order_one_by_one_or_at_once_is_the_textbook(prior, observed, data) -> None:
    dim, batches = observed
    at_once, one_by_one = prior(dim), prior(dim)
    for rows, noise in batches:
        at_once = at_once.condition_on_rows(rows, noise)
    for place in data.draw(st.permutations(range(len(batches)))):
        for row in batches[place][0]:
            one_by_one = one_by_one.condition(row, batches[place][1])
    expected = textbook(dim, batches)
    assert_is(at_once, expected)
    assert_is(one_by_one, expected)


@few_examples
@given(observed=observations())
def test_the_basis_is_orthonormal_and_no_wider_than_the_rows(observed) -> None:
    dim, batches = observed
    basis = Basis.empty(dim)
    for rows, _ in batches:
        basis = basis.with_rows(rows)
    rows = torch.cat([torch.empty(0, dim, dtype=torch.float64), *(rows for rows, _ in batches)])
    units = torch.nn.functional.normalize(rows, dim=1)
    assert basis.size == (int(torch.linalg.matrix_rank(units, atol=1e-10)) if len(units) else 0)
    torch.testing.assert_close(basis.vectors @ basis.vectors.mT, identity(basis.size), rtol=0, atol=1e-14)
    assert float(basis.split(units)[1].abs().sum()) < 1e-12


@pytest.mark.parametrize("at_once", [True, False], ids=["batch", "steps"])
@pytest.mark.parametrize("num_known", [0, 3, 5, 6, 12, 30])
def test_the_dense_form_takes_over_beyond_half_of_the_dimensions(num_known: int, at_once: bool) -> None:
    known, rows = normal(num_known, 12, 1), normal(4, 12, 2)
    posterior = Posterior.prior(12).condition_on_rows(known, 0.5)
    for part in [rows] if at_once else rows.split(1):
        posterior = posterior.condition_on_rows(part, 0.2) if at_once else posterior.condition(part[0], 0.2)
    assert rank(posterior) == (num_known + 4 if num_known + 4 <= 6 else "dense")
    assert_is(posterior, textbook(12, [(known, 0.5), (rows, 0.2)]))


def test_rows_within_the_span_add_no_vector() -> None:
    rows = normal(3, 20, 1)
    posterior = Posterior.prior(20).condition_on_rows(rows, 0.5)
    further = torch.cat([rows, -2 * rows, (normal(40, 3, 2) @ rows) * 1e6, torch.zeros(2, 20, dtype=torch.float64)])
    again = posterior.condition_on_rows(further, 1e9)
    one_by_one = posterior
    for row in further:
        one_by_one = one_by_one.condition(row, 1e9)
    assert [rank(each) for each in (posterior, again, one_by_one)] == [3, 3, 3]
    assert_is(again, textbook(20, [(rows, 0.5), (further, 1e9)]))
    assert_is(one_by_one, textbook(20, [(rows, 0.5), (further, 1e9)]))


@pytest.mark.parametrize("prior", [Posterior.prior, dense_prior], ids=["span", "dense"])
@pytest.mark.parametrize("rows", [normal(3, 16, 1), normal(40, 2, 1) @ normal(2, 16, 2)], ids=["full", "deficient"])
def test_without_noise_nothing_is_left_of_the_rows_and_all_outside(prior, rows: Tensor) -> None:
    posterior = prior(16).condition_on_rows(rows, 0.0)
    for _ in range(2):
        assert_is(posterior, identity(16) - torch.linalg.pinv(rows) @ rows)
        assert float(posterior.variance(rows).max()) < 1e-26 * float(rows.square().sum())
        posterior = posterior.condition_on_rows(rows, 0.0)


@pytest.mark.parametrize("noise", [1e-10, 1e-6, 1.0], ids=str)
def test_small_variances_keep_their_relative_accuracy(noise: float) -> None:
    """Of k observations of one row |x|^2 / (1 + k |x|^2 / s2) is left, also in a direction that is no axis."""
    row = normal(1, 30, 1)[0]
    posterior, length = Posterior.prior(30), float(row @ row)
    for k in range(1, 4):
        posterior = posterior.condition(row, noise)
        expected = length / (1 + k * length / noise)
        assert float(posterior.variance(row[None])) == pytest.approx(
            expected, rel=1e-16 * (length / noise) ** 0.5 + 1e-9
        )
    assert rank(posterior) == 1


def test_rows_of_which_little_is_left_are_told_apart() -> None:
    """A row almost within the span has a variance far below the rounding of its squared norm."""
    known, away = normal(5, 40, 1), normal(1, 40, 2)[0]
    away = away - torch.linalg.pinv(known) @ known @ away
    posterior = Posterior.prior(40).condition_on_rows(known, 0.0)
    for share in (1e-4, 1e-7, 1e-10):
        row = known[0] + share * away
        expected = share**2 * float(away @ away)
        assert float(posterior.variance(row[None])) == pytest.approx(expected, rel=1e-15 / share * 10)
        assert rank(posterior.condition(row, 1e-3)) == 6


def test_a_state_that_others_grew_from_stays_as_it_was() -> None:
    """Looking ahead and starting over, as speculation does: the store is shared, and no one overwrites another's."""
    rows = normal(12, 50, 1)
    start = Posterior.prior(50).condition_on_rows(rows[:2], 0.4)
    before = start.root.clone()
    ahead, other = start, start
    for row in rows[2:7]:
        ahead = ahead.condition(row, 0.4)
    for row in rows[7:]:
        other = other.condition(row, 0.4)
    torch.testing.assert_close(start.root, before, rtol=0, atol=0)
    assert_is(ahead, textbook(50, [(rows[:7], 0.4)]))
    assert_is(other, textbook(50, [(torch.cat([rows[:2], rows[7:]]), 0.4)]))


def test_steps_ahead_copy_the_basis_once() -> None:
    basis, row = Basis.empty(1000), normal(40, 1000, 1)
    stores = set()
    for each in row:
        basis = basis.extended(basis.place(each)[1])
        stores.add(basis.vectors.data_ptr())
    assert len(stores) <= 2
    assert pack(basis).num_bytes < 1.01 * 8 * 40 * 1000
    assert torch.equal(unpack(pack(basis)).vectors, basis.vectors)


@pytest.mark.parametrize("dim", [8, 2049, 2050], ids=str)
@pytest.mark.parametrize("num_rows", [0, 3])
def test_a_posterior_is_read_from_its_tensors(dim: int, num_rows: int) -> None:
    posterior = Posterior.prior(dim).condition_on_rows(normal(num_rows, dim, 1), 0.1)
    tensors = posterior.tensors()
    assert sorted(tensors) == (["root"] if dim <= 2048 else ["basis", "root_in_basis"])
    read, rows = Posterior.of_tensors(tensors), normal(4, dim, 2)
    torch.testing.assert_close(read.variance(rows), posterior.variance(rows), **CLOSE)
    if dim > 2048:
        q, c = tensors["basis"].mT, tensors["root_in_basis"]
        covariance = identity(dim) - q @ q.mT + q @ c @ c.mT @ q.mT
        torch.testing.assert_close((rows @ covariance @ rows.mT).diagonal(), posterior.variance(rows), **CLOSE)


@pytest.mark.parametrize("num_picks", [1, 4, 12])
def test_what_is_known_of_targets_does_not_depend_on_the_form(num_picks: int) -> None:
    known, picks, targets = normal(2, 12, 1), normal(num_picks, 12, 2), Targets.uniform(normal(20, 12, 3))
    span, dense = (prior(12).condition_on_rows(known, 0.3) for prior in (Posterior.prior, dense_prior))
    assert isinstance(span.form, SpanRoot)
    assert isinstance(dense.form, DenseRoot)
    assert target_variance(span, targets) == pytest.approx(target_variance(dense, targets), rel=1e-12)
    for told in (directions, lambda p, y, s2: remaining_uncertainty(p, targets, y, s2)):
        torch.testing.assert_close(told(span, picks, 0.3), told(dense, picks, 0.3), **CLOSE)
