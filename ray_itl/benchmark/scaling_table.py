"""The figures of the scaling suite as a Markdown table and as a page of charts."""

from __future__ import annotations

from pathlib import Path

from ray_itl.benchmark.scaling import SPREAD, ScalingPoint
from ray_itl.benchmark.settings import ScalingSettings
from ray_itl.report.curves_page import CurvesChart, CurvesReport, write_curves_report


def scaling_table(points: list[ScalingPoint], settings: ScalingSettings) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"Scaling, one thing varied at a time around {_base(settings)}. Nodes are processes of this machine, with two "
        "shards each: what is added by more of them is the cost of messages, not computing power.",
        "",
        "| varied | value | picks | passes | picks a pass | screened in | seconds | seconds / first row | same picks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first: dict[str, ScalingPoint] = {}
    for p in points:
        ratio = p.seconds / first.setdefault(p.axis, p).seconds
        lines.append(
            f"| {p.axis} | {p.value:,} | {len(p.picks):,} | {p.passes:,} | {len(p.picks) / p.passes:.1f} "
            f"| {p.precision} | {p.seconds:.3g} | {ratio:.3g} | {_same(p, points)} |"
        )
    return "\n".join(lines)


def write_scaling_page(points: list[ScalingPoint], settings: ScalingSettings, machine: str, path: Path) -> Path:
    """Write charts of seconds and passes, one for each thing that is varied.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
    """
    charts = []
    for axis in dict.fromkeys(p.axis for p in points):
        own = [p for p in points if p.axis == axis]
        places, seconds, passes = [p.value for p in own], [p.seconds for p in own], [p.passes for p in own]
        curves = {"seconds": (places, seconds), "passes over the pool": (places, passes)}
        charts.append(CurvesChart(f"By {axis}", "On these axes a straight line is a power.", axis, "", curves))
    headline = f"Seconds and passes of a selection around {_base(settings)}."
    return write_curves_report(CurvesReport("Scaling", headline, charts, facts={"Machine": machine}), path)


def _base(settings: ScalingSettings) -> str:
    return (
        f"N = {settings.num_rows:,}, D = {settings.dim}, {settings.num_targets} targets, n = {settings.n:,}, noise "
        f"variance {settings.noise_variance:g}"
    )


def _same(point: ScalingPoint, points: list[ScalingPoint]) -> str:
    """Whether shards and nodes picked what one process does; "-" where the problem is another."""
    if point.axis not in SPREAD:
        return "-"
    reference = next((p for p in points if p.axis in SPREAD), point)
    return "yes" if point.picks == reference.picks else "NO"
