import pytest
import torch

from benchmarks.convergence import convergence_table, irreducible_variance, render_convergence, run_convergence
from benchmarks.settings import ConvergenceSettings

SETTINGS = ConvergenceSettings(num_rows=20, num_targets=6, n=600, noise_variance=0.1)


def test_the_variance_of_every_target_falls_to_its_floor_and_no_lower() -> None:
    pytest.importorskip("plotly")
    report = run_convergence(SETTINGS, lambda _: None)
    assert report.num_picks[0] == 1
    assert report.num_picks[-1] == SETTINGS.n
    assert (report.irreducible > 1e-3).all()  # 20 digits do not span the targets
    assert (report.gap > 0).all()
    assert (report.gap[-1] < 0.05 * report.gap[0]).all()
    # The tail falls as 1/n: doubling the picks about halves the distance.
    half = report.gap[(report.num_picks >= SETTINGS.n // 2).argmax()].mean()
    assert 1.5 < half / report.gap[-1].mean() < 2.5
    page = render_convergence(report, "this machine")
    assert "Variance of the targets" in page
    assert "defect" not in page
    assert convergence_table(report, SETTINGS).count("\n| ") == 5


def test_what_the_pool_spans_is_not_irreducible() -> None:
    pool = torch.eye(4)[:2]
    targets = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(irreducible_variance(pool, targets), torch.tensor([0.0, 4.0], dtype=torch.float64))
