"""The page that shows how the targets' variance falls to what the pool cannot explain, and no lower."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ray_itl.report.document import assemble, write_page
from ray_itl.report.figures import Chart, empty_figure
from ray_itl.report.words import Tile, number, plain


@dataclass(frozen=True)
class ConvergenceReport:
    """Variances of M targets after some numbers of picks.

    Attributes:
        num_picks: k numbers of picks, ascending and positive.
        variance: k x M, sigma_n^2(x) of each target x given the first n picks.
        irreducible: M, eta^2(x) = |(I - P) x|^2 with P the projection onto the span of the pool.
        facts: label and value of whatever else a reader should know.
    """

    num_picks: np.ndarray
    variance: np.ndarray
    irreducible: np.ndarray
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def gap(self) -> np.ndarray:
        """Return variance above the irreducible, k x M."""
        return self.variance - self.irreducible


def write_convergence_report(report: ConvergenceReport, path: str | Path) -> Path:
    """Render `report` into the file `path`, which appears whole or not at all; returns the path.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
        OSError: the directory of `path` does not exist or cannot be written.
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
        "facts": {plain(label): plain(value) for label, value in report.facts.items()},
    }
    charts = [_variance_chart(report), _gap_chart(report)]
    text = assemble(
        "template.convergence.html.j2", charts, values, styles=["template.css"], scripts=["template.charts.js"]
    )
    return write_page(text, path)


def _variance_chart(report: ConvergenceReport) -> Chart:
    """Mean variance over the targets, and the mean of what is irreducible."""
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
    """Variance above the irreducible: largest, median and smallest over the targets."""
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
