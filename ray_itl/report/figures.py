"""Charts in general: a plotly figure with the words around it, and the pieces that several pages draw.

Figures carry no colours: each trace names its role in `meta`, and the page's script paints roles from the
style sheet, so that one figure serves light and dark.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_itl.report.optional import load
from ray_itl.report.words import clip, duration, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Chart:
    """A figure with the words around it.

    Attributes:
        name: identifier in the page, of letters and dashes.
        heading: what the chart shows.
        caption: one sentence on how to read it.
        description: what a reader who cannot see it should know.
        figure: the plotly figure.
        wide: whether it takes the full width of the page.
        logarithmic: the axes a button turns logarithmic: "x", "xy", or none.
    """

    name: str
    heading: str
    caption: str
    description: str
    figure: "go.Figure"
    wide: bool = False
    logarithmic: str = ""


def empty_figure() -> "go.Figure":
    """A figure in the style of the pages, still without traces.

    Raises:
        MissingReportDependencyError: plotly is not installed.
    """
    graph_objects = load("plotly.graph_objects")
    return graph_objects.Figure(
        layout={"template": "none", "showlegend": False, "margin": {"l": 56, "r": 16, "t": 28, "b": 48}}
    )


def seconds_chart(stage_seconds: Mapping[str, float]) -> Chart:
    """Seconds of each stage, as horizontal bars."""
    names = [label(name, 28) for name in stage_seconds]
    seconds = list(stage_seconds.values())
    figure = empty_figure()
    figure.add_bar(
        x=seconds,
        # Bars sit at positions, not at their names: plotly would merge two stages whose names clip alike.
        y=list(range(len(seconds))),
        orientation="h",
        meta="bar",
        text=[duration(value) for value in seconds],
        textposition="auto",
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": "seconds", "rangemode": "tozero"},
        yaxis={
            "autorange": "reversed",
            "tickmode": "array",
            "tickvals": list(range(len(seconds))),
            "ticktext": names,
            "automargin": True,
            "showgrid": False,
            "zeroline": False,
        },
        bargap=0.35,
    )
    spoken = ", ".join(f"{plain(name)} {duration(value)}" for name, value in stage_seconds.items())
    caption = "Seconds spent in each stage of the run."
    return Chart("seconds", "Where the time went", caption, f"Bars: {clip(spoken, 400)}.", figure)


def label(value: object, most: int) -> str:
    """Untrusted text for a chart: plotly reads markup in its labels, so it is escaped here as well."""
    return html.escape(clip(plain(value), most), quote=False)


def figure_texts(charts: Sequence[Chart]) -> dict[str, str]:
    """JSON of each chart's figure, by the chart's name."""
    return {chart.name: str(chart.figure.to_json(engine="json")) for chart in charts}
