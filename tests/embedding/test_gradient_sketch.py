"""The sketch of gradients is linear, keeps inner products on average, and exactly where there is room for all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.embedding.gradient_sketch import GradientSketch

SIZES = {"a": 30, "b": 7, "c": 13}
TOTAL = sum(SIZES.values())


def sketched(rows: Tensor, dim: int, seed: int = 0, sizes: dict[str, int] = SIZES) -> Tensor:
    sketch, sums = GradientSketch(sizes, dim, seed), torch.zeros(len(rows), dim)
    for name, part in zip(sizes, rows.split(list(sizes.values()), dim=1), strict=True):
        sketch.add(sums, name, part)
    return sums


def vectors(num_rows: int = 4) -> Tensor:
    return torch.randn(num_rows, TOTAL, generator=torch.Generator().manual_seed(3))


@given(dim=st.integers(1, 70), sizes=st.lists(st.integers(1, 25), min_size=1, max_size=4), seed=st.integers(0, 3))
def test_every_number_goes_to_one_place_with_a_sign(dim: int, sizes: list[int], seed: int) -> None:
    named = {str(k): size for k, size in enumerate(sizes)}
    matrix = sketched(torch.eye(sum(sizes)), dim, seed, named)
    assert ((matrix != 0).sum(dim=1) == 1).all()
    assert (matrix.abs().sum(dim=1) == 1).all()
    for block in matrix.split(dim):  # within a block none meet
        assert ((block != 0).sum(dim=0) <= 1).all()


@pytest.mark.parametrize("dim", [1, 8, 50])
def test_it_is_linear(dim: int) -> None:
    rows = vectors()
    torch.testing.assert_close(sketched(rows, dim), rows @ sketched(torch.eye(TOTAL), dim))


def test_how_the_numbers_are_cut_into_matrices_does_not_matter() -> None:
    rows = vectors()
    assert torch.equal(sketched(rows, 8), sketched(rows, 8, sizes={"all": TOTAL}))


@pytest.mark.parametrize("dim", [TOTAL, TOTAL + 9])
def test_where_there_is_room_for_all_inner_products_are_exact(dim: int) -> None:
    rows = vectors()
    found = sketched(rows, dim)
    torch.testing.assert_close(found @ found.mT, rows @ rows.mT)


@pytest.mark.parametrize("dim", [4, 16])
def test_inner_products_are_kept_on_average_within_the_error_that_is_stated(dim: int) -> None:
    """Over 2,000 seeds: a mean within five standard errors, and a variance of at most the bound, and not far below."""
    rows = vectors()
    each = torch.stack([found @ found.mT for found in (sketched(rows, dim, seed) for seed in range(2000))])
    truth, squares = rows @ rows.mT, rows.square().sum(dim=1)
    assert ((each.mean(dim=0) - truth).abs() < 5 * each.std(dim=0) / 2000**0.5 + 1e-6).all()
    bound = (squares[:, None] * squares + truth.square()) / dim
    assert (each.var(dim=0) < 1.2 * bound).all()
    assert (each.var(dim=0) > 0.5 * bound).all()


def test_the_seed_decides() -> None:
    rows, state = vectors(), torch.get_rng_state()
    assert torch.equal(sketched(rows, 8, 1), sketched(rows, 8, 1))
    assert not torch.equal(sketched(rows, 8, 1), sketched(rows, 8, 2))
    assert torch.equal(torch.get_rng_state(), state)
