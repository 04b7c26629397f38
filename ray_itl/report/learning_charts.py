"""The charts of an active fine-tuning, as plotly figures, and how its variants are told apart.

Each variant has its colour, dash and marker on every chart and in the key. Colours have names here and values in the
style sheet, which differ between light and dark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ray_itl.report.figures import Chart, empty_figure, label, seconds_chart
from ray_itl.report.learning_data import LearningCurve, LearningReport, Trail
from ray_itl.report.learning_words import num_seeds, on_task_digits, score_digits, seeds, short, with_error
from ray_itl.text import clip, number, percent, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

NUM_COLORS = 6
_DASHES = {"solid": "", "dash": "6 3", "dot": "2 2", "dashdot": "6 2 2 2"}
# Markers around (0, 0) as plotly draws them, for the key.
_MARKERS = {
    "circle": "M-4,0 a4,4 0 1,0 8,0 a4,4 0 1,0 -8,0Z",
    "square": "M-3.5,-3.5 H3.5 V3.5 H-3.5Z",
    "diamond": "M0,-5 L5,0 L0,5 L-5,0Z",
    "triangle-up": "M0,-4.5 L4.5,3.5 L-4.5,3.5Z",
    "cross": "M-1.6,-4.5 H1.6 V-1.6 H4.5 V1.6 H1.6 V4.5 H-1.6 V1.6 H-4.5 V-1.6 H-1.6Z",
    "triangle-down": "M0,4.5 L4.5,-3.5 L-4.5,-3.5Z",
    "hourglass": "M-4,-4.5 H4 L-4,4.5 H4Z",
    "bowtie": "M-4.5,-4 L4.5,4 V-4 L-4.5,4Z",
}
_MARKERS_ON_A_CURVE = 12
_COUNTED_ROUNDS = 10
_SPOKEN_CHARS = 600


class VariantStyle(NamedTuple):
    """The look of one variant."""

    key: str
    """Names the variant in the page: its colour is `--variant-<color>`, its traces are group `key`."""
    color: str
    """Name of the colour."""
    dash: str
    """Plotly's name of the dash, `dash_array` the same for SVG."""
    dash_array: str
    symbol: str
    """Plotly's name of the marker, `marker_path` the same for SVG."""
    marker_path: str


def make_learning_charts(report: LearningReport) -> list[Chart]:
    """Return the charts that `report` supports, in the order of the page.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    charts = [score_chart(report), on_task_chart(report)]
    if report.variance:
        charts.append(variance_chart(report))
    if report.drift:
        charts.append(drift_chart(report))
    if report.stage_seconds:
        charts.append(seconds_chart(report.stage_seconds))
    return charts


def variant_styles(names: Sequence[str], reference: str | None) -> dict[str, VariantStyle]:
    """Return a style for each variant, the reference's of a colour of its own; up to 24 others all look different."""
    styles = {}
    rank = 0
    for position, name in enumerate(names):
        if name == reference:
            styles[name] = _style(position, "reference", "dot", "circle")
            continue
        dash, symbol = list(_DASHES)[rank % len(_DASHES)], list(_MARKERS)[rank % len(_MARKERS)]
        styles[name] = _style(position, str(rank % NUM_COLORS), dash, symbol)
        rank += 1
    return styles


def score_chart(report: LearningReport) -> Chart:
    """Return score against labels, with bands of one standard error."""
    figure = _curves_figure(report, "score", score_digits(report))
    figure.update_layout(yaxis_title=label(report.score_name, 40))
    level = ""
    reference = report.reference_row
    if reference is not None:
        most = max(report.budget(curve.name) for curve in report.curves)
        figure.add_scatter(
            x=[0, most], y=[reference.score] * 2, mode="lines", line={"dash": "dash", "width": 1}, meta="guide",
            hoverinfo="skip",
        )  # fmt: skip
        level = f" The thin dashed line is {short(reference.name)}'s final score."
    direction = "higher" if report.higher_is_better else "lower"
    ends = ", ".join(f"{short(row.name)} {with_error(row.score, None, score_digits(report))}" for row in report.rows)
    return Chart(
        "score",
        f"{plain(report.score_name)[:1].upper()}{plain(report.score_name)[1:]} against labels",
        f"{direction.capitalize()} is better. {_spread(report)}{level}",
        f"Curves that end at: {clip(ends, _SPOKEN_CHARS)}.",
        figure,
        wide=True,
    )


def on_task_chart(report: LearningReport) -> Chart:
    """Draw picks of the task against labels, with the line of picks that are all of the task."""
    digits = on_task_digits(report)
    figure = _curves_figure(report, "on_task", digits)
    most = max(report.budget(curve.name) for curve in report.curves)
    figure.add_scatter(
        x=[0, most], y=[0, most], mode="lines", line={"dash": "dash", "width": 1}, meta="guide", hoverinfo="skip"
    )
    figure.update_layout(yaxis={"title": "picks on task", "rangemode": "tozero"})
    ends = ", ".join(f"{short(row.name)} {with_error(row.on_task, None, digits)}" for row in report.rows)
    return Chart(
        "on-task",
        "Picks on task",
        "How many of the labelled rows were of the task. On the thin dashed line all of them would be.",
        f"Curves that end at: {clip(ends, _SPOKEN_CHARS)}.",
        figure,
    )


def variance_chart(report: LearningReport) -> Chart:
    """Draw the share of the targets' prior variance left, against labels."""
    figure = _trails_figure(report, report.variance, lambda count, share: f"{count:,.0f} labels: {percent(share)} left")
    figure.update_layout(xaxis_title="labels", yaxis={"tickformat": ".3~%", "rangemode": "tozero"})
    ends = ", ".join(f"{short(name)} {percent(float(trail.values[-1]))}" for name, trail in report.variance.items())
    return Chart(
        "variance",
        "Uncertainty left",
        "Share of the targets' prior variance that the labels leave: lower is better.",
        f"Curves that end at: {clip(ends, _SPOKEN_CHARS)}.",
        figure,
    )


def drift_chart(report: LearningReport) -> Chart:
    """Draw the mean cosine between embeddings of the same rows before and after a round."""
    figure = _trails_figure(report, report.drift, lambda number, cosine: f"round {number:.0f}: cosine {cosine:.4f}")
    figure.update_layout(xaxis_title="round", yaxis_title="mean cosine")
    if max(len(trail.places) for trail in report.drift.values()) <= _COUNTED_ROUNDS:
        figure.update_xaxes(dtick=1)
    ends = ", ".join(f"{short(name)} {number(float(trail.values[-1]))}" for name, trail in report.drift.items())
    return Chart(
        "drift",
        "How far the embedding moves",
        "Mean cosine between a row's embedding before and after a round: 1 means that training moved nothing.",
        f"Curves that end at: {clip(ends, _SPOKEN_CHARS)}.",
        figure,
    )


def _style(position: int, color: str, dash: str, symbol: str) -> VariantStyle:
    return VariantStyle(f"variant-{position}", color, dash, _DASHES[dash], symbol, _MARKERS[symbol])


def _curves_figure(report: LearningReport, quantity: str, digits: int) -> go.Figure:
    """Return a figure of score or on_task of every curve: bands below, curves above, the first curve on top."""
    styles = variant_styles([curve.name for curve in report.curves], report.reference)
    figure = empty_figure()
    for curve in report.curves:
        _add_band(figure, curve, quantity, styles[curve.name])
    for curve in reversed(report.curves):
        values, errors = getattr(curve, quantity), getattr(curve, f"{quantity}_error")
        errors = [None] * len(values) if errors is None else errors
        text = [
            f"{label(curve.name, 40)}<br>{int(count):,} labels: {with_error(value, error, digits)}"
            for count, value, error in zip(curve.num_labelled, values, errors, strict=True)
        ]
        figure.add_scatter(
            **_line(curve.num_labelled, values, styles[curve.name]),
            text=text,
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(hovermode="closest", xaxis={"title": "labels", "zeroline": False}, yaxis={"zeroline": False})
    return figure


def _trails_figure(
    report: LearningReport, trails: Mapping[str, Trail], notify: Callable[[float, float], str]
) -> go.Figure:
    """Return a figure of one curve for each variant that left a trail; `notify` tells a place and its value."""
    styles = variant_styles([curve.name for curve in report.curves], report.reference)
    figure = empty_figure()
    for name, trail in reversed(list(trails.items())):
        figure.add_scatter(
            **_line(trail.places, trail.values, styles[name]),
            text=[f"{label(name, 40)}<br>{notify(*point)}" for point in zip(trail.places, trail.values, strict=True)],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(hovermode="closest", xaxis={"zeroline": False}, yaxis={"zeroline": False})
    return figure


def _line(x: np.ndarray, y: np.ndarray, style: VariantStyle) -> dict[str, object]:
    return {
        "x": np.asarray(x),
        "y": np.asarray(y, dtype=np.float64),
        "mode": "lines+markers",
        "line": {"width": 2, "dash": style.dash},
        "marker": {"size": 8, "symbol": style.symbol, "maxdisplayed": _MARKERS_ON_A_CURVE},
        "legendgroup": style.key,
        "meta": f"variant-{style.color}",
    }


def _add_band(figure: go.Figure, curve: LearningCurve, quantity: str, style: VariantStyle) -> None:
    """Shade one standard error on either side, where there is one."""
    errors = getattr(curve, f"{quantity}_error")
    if errors is None:
        return
    values, errors = np.asarray(getattr(curve, quantity), np.float64), np.asarray(errors, np.float64)
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(errors))
    if not len(known):
        return
    x, low, high = np.asarray(curve.num_labelled)[known], (values - errors)[known], (values + errors)[known]
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        mode="lines",
        line={"width": 0},
        fill="toself",
        hoverinfo="skip",
        legendgroup=style.key,
        meta=f"band-{style.color}",
    )


def _spread(report: LearningReport) -> str:
    """Say what the bands are, or why there are none."""
    shaded = any(curve.score_error is not None and np.isfinite(curve.score_error).any() for curve in report.curves)
    return f"Bands: one standard error over {num_seeds(report)}." if shaded else seeds(report)
