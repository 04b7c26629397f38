"""The projection equals its definition and keeps inner products on average."""

import pytest
import torch

from ray_itl.embedding.embedder import KroneckerProjection

C, D, N = 5, 7, 6


def factors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, C, generator=generator), torch.randn(N, D, generator=generator)


def gram(rows: torch.Tensor) -> torch.Tensor:
    return rows @ rows.mT


@pytest.mark.parametrize("kind", ["gaussian", "sign"])
def test_it_is_linear_in_the_product(kind: str) -> None:
    """Projected all basis products, it is a matrix; applied to a x h that matrix gives the projection of (a, h)."""
    projection = KroneckerProjection(C, D, 9, kind, seed=3)
    matrix = projection(torch.eye(C).repeat_interleave(D, dim=0), torch.eye(D).repeat(C, 1)).mT
    left, right = factors()
    products = torch.einsum("nc,nd->ncd", left, right).flatten(1)
    torch.testing.assert_close(projection(left, right), products @ matrix.mT, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "sign"])
def test_inner_products_are_kept_on_average(kind: str) -> None:
    """Unbiased: the mean over seeds lies within five standard errors, and they fall as one over the square root."""
    left, right = factors()
    truth = gram(left) * gram(right)
    each = torch.stack([gram(KroneckerProjection(C, D, 20, kind, seed)(left, right)) for seed in range(400)])
    standard_error = each.std(dim=0) / 20
    assert ((each.mean(dim=0) - truth).abs() < 5 * standard_error).all()
    fine = torch.stack([gram(KroneckerProjection(C, D, 320, kind, seed)(left, right)) for seed in range(100)])
    ratio = each.std(dim=0).mean() / fine.std(dim=0).mean()
    assert 3.2 < ratio < 5.0


def test_signs_vary_less() -> None:
    left, right = factors()
    spread = {
        kind: torch.stack([gram(KroneckerProjection(C, D, 20, kind, seed)(left, right)) for seed in range(200)]).std(0)
        for kind in ("gaussian", "sign")
    }
    assert spread["sign"].mean() < 0.8 * spread["gaussian"].mean()


def test_the_seed_decides() -> None:
    left, right = factors()
    before = torch.get_rng_state()
    one, same, other = (KroneckerProjection(C, D, 8, "gaussian", seed)(left, right) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_two_factors_are_drawn_independently() -> None:
    """Equal draws for both would square the entries where C = D."""
    found = KroneckerProjection(D, D, 2000, "gaussian", 0)(torch.eye(D), torch.eye(D))
    assert found.mean().abs() < 5 * found.std() / (7 * 2000) ** 0.5
