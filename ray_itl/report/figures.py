"""Charts in general: a plotly figure with the words around it, and the pieces that several pages draw.

Figures carry no colours: each trace names its role in `meta`, and the page's script paints roles from the style sheet,
so that one figure serves light and dark. Of long curves and crowded maps only some points are drawn.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ray_itl.extras import load_extra
from ray_itl.text import clip, duration, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Chart:
    """A figure with the words around it."""

    name: str
    """Identifier in the page, of letters and dashes."""
    heading: str
    """What the chart shows."""
    caption: str
    """One sentence on how to read it."""
    description: str
    """What a reader who cannot see it should know."""
    figure: go.Figure
    """The plotly figure."""
    wide: bool = False
    """Whether it takes the full width of the page."""
    logarithmic: str = ""
    """The axes a button turns logarithmic: "x", "xy", or none."""


def load_library(name: str) -> ModuleType:
    """Import a module that only reports need.

    Raises:
        MissingExtraError: it is not installed.
    """
    return load_extra(name, "the HTML report", "report")


def empty_figure() -> go.Figure:
    """Return a figure in the style of the pages, still without traces.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    graph_objects = load_library("plotly.graph_objects")
    return graph_objects.Figure(
        layout={"template": "none", "showlegend": False, "margin": {"l": 56, "r": 16, "t": 28, "b": 48}}
    )


def seconds_chart(stage_seconds: Mapping[str, float]) -> Chart:
    """Draw the seconds of each stage, as horizontal bars."""
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
    """Return untrusted text for a chart: plotly reads markup in its labels, so it is escaped here as well."""
    return html.escape(clip(plain(value), most), quote=False)


def figure_texts(charts: Sequence[Chart]) -> dict[str, str]:
    """Return JSON of each chart's figure, by the chart's name."""
    return {chart.name: str(chart.figure.to_json(engine="json")) for chart in charts}


def curve_points(values: np.ndarray, *, most: int = 1200) -> np.ndarray:
    """Return the indices, ascending, of the points that draw `values` as if all were drawn.

    Kept are the first and last points, the beginning densely (where gains change fastest and a logarithmic
    axis spreads them out), and the lowest and highest point of each of many equal stretches, so that no
    spike is lost.

    Args:
        values: (k,) a curve at equally spaced points.
        most: curves up to this long are kept whole; longer ones keep at most this many points.

    Returns:
        (at most `most`,) int64.
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    head = np.arange(most // 4)
    spread = np.geomspace(1, count, most // 4).astype(np.int64) - 1
    extremes = []
    for stretch in np.array_split(np.arange(count), most // 4 - 1):
        part = values[stretch]
        extremes += [stretch[part.argmin()], stretch[part.argmax()]]
    return np.unique(np.concatenate([head, spread, extremes, [count - 1]])).astype(np.int64)


def even_points(count: int, most: int) -> np.ndarray:
    """Return (min(count, most),) int64 indices spread evenly over `range(count)`, ascending."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def early_points(count: int, most: int) -> np.ndarray:
    """Return at most `most` indices of `range(count)`, ascending: half of them the first ones, the rest even."""
    if count <= most:
        return np.arange(count)
    head = most // 2
    return np.concatenate([np.arange(head), head + even_points(count - head, most - head)])
