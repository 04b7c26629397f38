"""A page of named curves on logarithmic axes: how cost grows, or what it buys, of several tools or by scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ray_itl.report.document import Tile, assemble
from ray_itl.report.figures import Chart, empty_figure, label
from ray_itl.report.learning_charts import VariantStyle, variant_styles
from ray_itl.text import clip, number, plain

_SPOKEN_CHARS = 600


@dataclass(frozen=True)
class CurvesChart:
    """One chart."""

    heading: str
    """What it shows."""
    caption: str
    """One sentence on how to read it."""
    x_title: str
    y_title: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Name to places and values (k each), positive for a logarithmic axis; places without a value are nan."""
    linear_y: bool = False
    """Whether the vertical axis is linear."""


@dataclass(frozen=True)
class CurvesReport:
    """A page."""

    title: str
    """What was measured."""
    headline: str
    """One sentence that says what came out."""
    charts: Sequence[CurvesChart]
    """In order; a name means the same curve on all of them."""
    tiles: Sequence[Tile] = ()
    """Key figures."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Label and value of whatever else a reader should know."""
    charts_heading: str = "How it grows"
    """Above the charts."""


def render_curves(report: CurvesReport) -> str:
    """Return the report as HTML that opens offline and loads nothing.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    names = list(dict.fromkeys(name for chart in report.charts for name in chart.curves))
    styles = variant_styles(names, None)
    values = {
        "title": plain(report.title),
        "headline": plain(report.headline),
        "charts_heading": report.charts_heading,
        "warnings": [],
        "tiles": list(report.tiles),
        "key": list(styles.items()) if len(styles) > 1 else [],
        "facts": {plain(name): plain(value) for name, value in report.facts.items()},
    }
    return assemble(
        "benchmarks/curves.html.j2",
        [_chart(f"curves-{place}", chart, styles) for place, chart in enumerate(report.charts)],
        values,
        styles=["page.css", "learning.css"],
        scripts=["charts.js", "learning.js"],
    )


def _chart(name: str, chart: CurvesChart, styles: Mapping[str, VariantStyle]) -> Chart:
    figure = empty_figure()
    for curve, (places, values) in chart.curves.items():
        style = styles[curve]
        figure.add_scatter(
            x=np.asarray(places, dtype=np.float64),
            y=np.asarray(values, dtype=np.float64),
            mode="lines+markers",
            line={"width": 2, "dash": style.dash},
            marker={"size": 8, "symbol": style.symbol},
            text=[f"{label(curve, 40)}<br>{number(x)}: {number(y)}" for x, y in zip(places, values, strict=True)],
            hovertemplate="%{text}<extra></extra>",
            legendgroup=style.key,
            meta=f"variant-{style.color}",
        )
    ticks = sorted({float(x) for places, _ in chart.curves.values() for x in places})
    figure.update_layout(
        hovermode="closest",
        xaxis={
            "title": chart.x_title, "type": "log", "zeroline": False,
            "tickmode": "array", "tickvals": ticks, "ticktext": [number(x) for x in ticks],
        },
        yaxis={"title": chart.y_title, "zeroline": False} | ({} if chart.linear_y else {"type": "log", "dtick": "D2"}),
    )  # fmt: skip
    spoken = "; ".join(f"{curve} ends at {_last(values)}" for curve, (_, values) in chart.curves.items())
    return Chart(name, chart.heading, chart.caption, f"Curves: {clip(plain(spoken), _SPOKEN_CHARS)}.", figure)


def _last(values: Sequence[float]) -> str:
    known = [value for value in values if value == value]
    return number(known[-1]) if known else "nothing"
