import pytest
import torch

from benchmarks.comparison import worth
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.reference import dense_kernel, joint_information


def drawn(num_rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("num_targets", "noise"), [(3, 0.1), (12, 1.0)])
def test_it_is_the_reference_over_a_whole_pool_and_the_posterior_in_weight_space(
    num_targets: int, noise: float
) -> None:
    pool, targets = drawn(40, 8, seed=0), Targets.uniform(drawn(num_targets, 8, seed=1))
    picks = [3, 17, 5, 30]
    found = worth(pool[picks].float().double(), targets.rows, noise)
    kernel = dense_kernel(pool, targets, None, noise)
    nats = joint_information(kernel, range(40, 40 + num_targets), picks, noise)
    posterior = Posterior.prior(8).condition_on_rows(pool[picks], noise)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.variance == pytest.approx(float(posterior.variance(targets.rows).sum()), rel=1e-5)
    assert found.prior_variance == pytest.approx(float(targets.rows.square().sum()))
    assert 0 < found.variance_left < 1


def test_the_order_does_not_matter_and_a_repeated_row_is_a_second_observation() -> None:
    rows, targets = drawn(3, 5, seed=2), drawn(2, 5, seed=3)
    once = worth(rows, targets, 0.5)
    assert worth(rows.flip(0), targets, 0.5).nats == pytest.approx(once.nats)
    twice = worth(rows[[0, 1, 2, 0]], targets, 0.5)
    assert twice.nats > once.nats
    assert twice.variance < once.variance
