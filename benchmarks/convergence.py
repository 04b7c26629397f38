"""Convergence on a finite pool: the targets' variance falls to what the pool cannot explain, and no lower.

The irreducible variance is that of theorem 3.3 of the paper. Made: a Markdown table, and a page of two charts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from benchmarks.settings import ConvergenceSettings
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.shard import PoolShard
from ray_itl.experiments import digits
from ray_itl.experiments.cache import as_matrix
from ray_itl.report.document import Tile, assemble
from ray_itl.report.figures import Chart, empty_figure
from ray_itl.text import number, plain

_CLASSES = (3, 6, 9)


@dataclass(frozen=True)
class ConvergenceReport:
    """Variances of M targets after some numbers of picks."""

    num_picks: np.ndarray
    """k numbers of picks, ascending and positive."""
    variance: np.ndarray
    """k x M, sigma_n^2(x) of each target x given the first n picks."""
    irreducible: np.ndarray
    """M, eta^2(x) = |(I - P) x|^2 with P the projection onto the span of the pool."""
    facts: dict[str, object] = field(default_factory=dict)
    """Label and value of whatever else a reader should know."""

    @property
    def gap(self) -> np.ndarray:
        """Return variance above the irreducible, k x M."""
        return self.variance - self.irreducible


def run_convergence(settings: ConvergenceSettings, notify: Callable[[str], None]) -> ConvergenceReport:
    """Return pick rows of a small pool of digits again and again for targets that it does not span.

    Raises:
        InputError: scikit-learn is not installed.
    """
    pool, targets = _digits(settings)
    rule = InformationGain(settings.noise_variance)
    state = rule.start(Posterior.prior(pool.shape[1]), Targets.uniform(targets))
    shard = PoolShard(MemoryFeatures(pool), np.arange(len(pool)), 0)
    notify(f"picking {settings.n:,} times from {len(pool)} digits, with replacement")
    result = GreedySelector(LocalPool([shard]), rule, state, replacement=True).select(settings.n)
    places = np.unique(np.geomspace(1, settings.n, 60).round().astype(np.int64))
    posterior, variance = Posterior.prior(pool.shape[1]), []
    for count, pick in enumerate(result.features, start=1):
        posterior = posterior.condition(pick, settings.noise_variance)
        if count in places:
            variance.append(posterior.variance(targets))
    return ConvergenceReport(
        places,
        torch.stack(variance).numpy(),
        irreducible_variance(pool, targets).numpy(),
        {"Pool": f"{len(pool)} digits", "Targets": len(targets), "Noise variance": settings.noise_variance},
    )


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


def render_convergence(report: ConvergenceReport, machine: str) -> str:
    """Return the report as HTML that opens offline and loads nothing.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    last, gap = int(report.num_picks[-1]), report.gap
    values = {
        "title": "Convergence",
        "headline": f"After {last:,} picks the targets' variance is {number(float(gap[-1].mean()))} above its floor.",
        "warnings": ["A variance fell below its floor: that is a defect."] if (gap < -1e-9).any() else [],
        "tiles": [
            Tile("mean variance", number(float(report.variance[-1].mean())), "at the end"),
            Tile("mean floor", number(float(report.irreducible.mean())), "irreducible"),
            Tile("smallest gap", number(float(gap.min())), "never below 0"),
        ],
        "facts": {plain(label): plain(value) for label, value in {**report.facts, "Machine": machine}.items()},
    }
    charts = [_variance_chart(report), _gap_chart(report)]
    return assemble("benchmarks/convergence.html.j2", charts, values, styles=["page.css"], scripts=["charts.js"])


def irreducible_variance(pool: Tensor, targets: Tensor) -> Tensor:
    """Return eta^2 = |(I - P) x|^2 of targets x (M x D), with P the projection onto the rows of the pool (N x D)."""
    basis = torch.linalg.svd(pool.to(torch.float64), full_matrices=False)
    kept = basis.Vh[1e-10 * basis.S[0] < basis.S]
    return (targets - targets @ kept.mT @ kept).square().sum(dim=1)


def _variance_chart(report: ConvergenceReport) -> Chart:
    """Draw the mean variance over the targets, and the mean of what is irreducible."""
    figure = empty_figure()
    figure.add_scatter(x=report.num_picks, y=report.variance.mean(axis=1), mode="lines", meta="uncertainty")
    ends, floor = report.num_picks[[0, -1]], [float(report.irreducible.mean())] * 2
    figure.add_scatter(x=ends, y=floor, mode="lines", line={"dash": "dash"}, meta="floor")
    figure.update_layout(
        xaxis={"title": "picks", "type": "log"}, yaxis={"title": "mean posterior variance", "rangemode": "tozero"}
    )
    caption = "Mean over the targets; the dashed line is what no row of the pool can explain."
    described = f"A curve that falls to {number(floor[0])} and stays above it."
    return Chart("variance", "Variance of the targets", caption, described, figure)


def _gap_chart(report: ConvergenceReport) -> Chart:
    """Draw the variance above the irreducible: largest, median and smallest over the targets."""
    figure = empty_figure()
    for name, values in (
        ("largest", report.gap.max(axis=1)),
        ("median", np.median(report.gap, axis=1)),
        ("smallest", report.gap.min(axis=1)),
    ):
        # A target that the pool explains not at all has no gap, which a logarithmic axis cannot show.
        shown = np.where(values > 0, values, np.nan)
        figure.add_scatter(
            x=report.num_picks, y=shown, mode="lines", name=name, meta="uncertainty" if name == "median" else "guide"
        )
    figure.update_layout(
        xaxis={"title": "picks", "type": "log"}, yaxis={"title": "variance above the irreducible", "type": "log"}
    )
    caption = "Largest, median and smallest over the targets; on these axes 1/n is a straight line."
    return Chart("gap", "Distance to the floor", caption, "Three curves that fall as 1/n.", figure)


def _digits(settings: ConvergenceSettings) -> tuple[Tensor, Tensor]:
    """Return a pool of the first digits of all classes (float32) and targets of three classes (float64)."""
    train, test = digits.tables()
    pool = torch.from_numpy(as_matrix(train["image"])[: settings.num_rows].copy())
    labels = np.asarray(test["label"])
    rows = np.flatnonzero(np.isin(labels, _CLASSES))[: settings.num_targets]
    return pool, torch.from_numpy(as_matrix(test["image"])[rows].astype(np.float64))
