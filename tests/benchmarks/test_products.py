import pytest
import torch

from benchmarks.products import BFLOAT16, FLOAT32, INT8, Products


@pytest.mark.parametrize(("num_rows", "dim"), [(20, 5), (8192, 16), (8195, 7), (17000, 3)])
def test_every_type_is_multiplied_whatever_the_shape(num_rows: int, dim: int) -> None:
    products = Products(torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(0)))
    assert products.kinds == [FLOAT32, BFLOAT16, INT8]  # TF32 is of CUDA devices
    assert all(products.seconds(kind, 5, 1) > 0 for kind in products.kinds)
    assert products.copy_seconds(1) > 0
    assert products.flop(5) == 2 * num_rows * dim * 5


def test_all_rows_take_part_once_but_for_a_short_last_part() -> None:
    rows, seen = torch.arange(8195.0)[:, None], []

    def product(part: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        seen.append(part)
        return part @ columns

    Products(torch.ones(8195, 4))._multiply(product, rows, torch.ones(1, 1))
    assert [len(part) for part in seen] == [8192, 32]
    assert torch.cat(seen).unique().equal(torch.arange(8195.0))


def test_no_rows_but_zeros_are_no_division_by_zero() -> None:
    assert Products(torch.zeros(40, 4)).seconds(INT8, 2, 1) > 0


def test_the_precision_of_products_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    Products(torch.ones(40, 4)).seconds(FLOAT32, 2, 1)
    assert torch.get_float32_matmul_precision() == before
