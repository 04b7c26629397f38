"""Convergence on a finite pool: the targets' variance falls to the irreducible value and no lower (paper, thm. 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ray_itl.benchmark.settings import ConvergenceSettings
from ray_itl.core.acquisitions import InformationGain
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.shard import PoolShard
from ray_itl.core.store import MemoryFeatures
from ray_itl.datasets import digits
from ray_itl.datasets.tables import as_matrix
from ray_itl.report.convergence_page import ConvergenceReport, write_convergence_report

_CLASSES = (3, 6, 9)


def run_convergence(settings: ConvergenceSettings, folder: Path, say: Callable[[str], None]) -> ConvergenceReport:
    """Pick rows of a small pool of digits again and again for targets that it does not span; write convergence.html.

    Raises:
        InputError: scikit-learn is not installed.
        MissingReportDependencyError: plotly or jinja2 is not installed.
    """
    pool, targets = _digits(settings)
    rule = InformationGain(settings.noise_variance)
    state = rule.start(Posterior.prior(pool.shape[1]), Targets.uniform(targets))
    shard = PoolShard(MemoryFeatures(pool), np.arange(len(pool)), 0)
    say(f"picking {settings.n:,} times from {len(pool)} digits, with replacement")
    result = GreedySelector(LocalPool([shard]), rule, state, replacement=True).select(settings.n)
    places = np.unique(np.geomspace(1, settings.n, 60).round().astype(np.int64))
    posterior, variance = Posterior.prior(pool.shape[1]), []
    for count, pick in enumerate(result.features, start=1):
        posterior = posterior.condition(pick, settings.noise_variance)
        if count in places:
            variance.append(posterior.variance(targets))
    report = ConvergenceReport(
        places,
        torch.stack(variance).numpy(),
        irreducible_variance(pool, targets).numpy(),
        {"Pool": f"{len(pool)} digits", "Targets": len(targets), "Noise variance": settings.noise_variance},
    )
    write_convergence_report(report, folder / "convergence.html")
    return report


def irreducible_variance(pool: Tensor, targets: Tensor) -> Tensor:
    """Return eta^2 = |(I - P) x|^2 of targets x (M x D), with P the projection onto the rows of the pool (N x D)."""
    basis = torch.linalg.svd(pool.to(torch.float64), full_matrices=False)
    kept = basis.Vh[1e-10 * basis.S[0] < basis.S]
    return (targets - targets @ kept.mT @ kept).square().sum(dim=1)


def convergence_table(report: ConvergenceReport, settings: ConvergenceSettings) -> str:
    """Return the figures as a Markdown table."""
    chosen = [int(np.searchsorted(report.num_picks, n)) for n in (1, 10, 100, 1000, settings.n) if n <= settings.n]
    lines = [
        f"Convergence: {settings.n:,} picks with replacement from {settings.num_rows} digits, mean over "
        f"{report.variance.shape[1]} targets; the irreducible variance is {report.irreducible.mean():.4f}, the "
        f"smallest distance of any target to its own at any time {report.gap.min():.2e}.",
        "",
        "| picks | mean variance | mean distance to the irreducible | largest |",
        "|---|---|---|---|",
    ]
    for k in dict.fromkeys(chosen):
        gap = report.gap[k]
        lines.append(
            f"| {report.num_picks[k]:,} | {report.variance[k].mean():.4f} | {gap.mean():.2e} | {gap.max():.2e} |"
        )
    return "\n".join(lines)


def _digits(settings: ConvergenceSettings) -> tuple[Tensor, Tensor]:
    """Return a pool of the first digits of all classes (float32) and targets of three classes (float64)."""
    train, test = digits.tables()
    pool = torch.from_numpy(as_matrix(train["image"])[: settings.num_rows].copy())
    labels = np.asarray(test["label"])
    rows = np.flatnonzero(np.isin(labels, _CLASSES))[: settings.num_targets]
    return pool, torch.from_numpy(as_matrix(test["image"])[rows].astype(np.float64))
