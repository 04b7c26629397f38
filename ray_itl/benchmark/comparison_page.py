"""The figures of a comparison as a page of charts: cost and worth against the size of the pool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ray_itl.benchmark.comparison import Comparison, Measurement
from ray_itl.benchmark.peers.plain import RANDOM
from ray_itl.benchmark.settings import PeersSettings
from ray_itl.report.curves_page import CurvesChart, CurvesReport, write_curves_report


def write_comparison_page(comparisons: list[Comparison], settings: PeersSettings, machine: str, path: Path) -> Path:
    """Write the page; a curve ends where a peer stops.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
    """
    charts = [chart for comparison in comparisons for chart in _charts(comparison)]
    largest = max(size for comparison in comparisons for size in comparison.num_rows)
    report = CurvesReport(
        title="ray_itl beside its peers",
        headline=f"What {settings.n:,} picks cost, and what they are worth, from pools of up to {largest:,} rows.",
        charts=charts,
        facts={
            "Machine": machine,
            "Targets": settings.num_targets,
            "Noise variance": settings.noise_variance,
            "Time limit": f"{settings.time_limit_s:g} s",
            "Memory limit": settings.memory_limit,
        },
    )
    return write_curves_report(report, path)


def _charts(comparison: Comparison) -> list[CurvesChart]:
    what = comparison.matrices.words
    return [
        _chart(comparison, f"Seconds: {what}", "seconds", lambda m: m.seconds),
        _chart(comparison, f"Memory: {what}", "MiB beside the pool", lambda m: max(m.extra_bytes, 1) / 2**20),
        _chart(comparison, f"Information: {what}", "nats", lambda m: m.worth.nats if m.worth else 0.0, linear=True),
        _chart(
            comparison,
            f"Uncertainty left: {what}",
            "share of the targets' variance",
            lambda m: m.worth.variance_left if m.worth else 0.0,
            linear=True,
        ),
    ]


def _chart(
    comparison: Comparison, heading: str, y_title: str, value: Callable[[Measurement], float], linear: bool = False
) -> CurvesChart:
    curves = {}
    for name in comparison.peers:
        if name == RANDOM and not linear:  # costs next to nothing, and would squeeze the others together
            continue
        done = [m for size in comparison.num_rows if not (m := comparison.measurements[name, size]).stopped]
        if done:
            curves[name] = ([m.num_rows for m in done], [value(m) for m in done])
    caption = "A curve ends where the peer ran out of time or memory."
    return CurvesChart(heading, caption, "rows in the pool", y_title, curves, linear_y=linear)
