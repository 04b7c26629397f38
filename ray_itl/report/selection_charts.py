"""The charts of a selection's report, as plotly figures, and where the selection could sensibly have stopped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ray_itl.report.figures import Chart, curve_points, early_points, empty_figure, even_points, label, seconds_chart
from ray_itl.report.mix_charts import mix_chart, targets_chart
from ray_itl.report.selection_data import ReportData
from ray_itl.text import amount, clip, percent, plain, plural

if TYPE_CHECKING:
    import plotly.graph_objects as go

SMALL = 0.1
MAP_POOL_POINTS = 4000
MAP_TARGET_POINTS = 2000
MAP_PICK_POINTS = 3000
_MARKED_POINTS = 60
_LOGARITHMIC_POINTS = 10
_PASSAGE_CHARS = 120


class SensibleEnd(NamedTuple):
    """The first `picks` picks would do: together they give `share` of the whole gain."""

    picks: int
    share: float


def make_charts(data: ReportData) -> list[Chart]:
    """Return the charts that `data` supports, in the order of the page.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    charts = [uncertainty_chart(data), gain_chart(data), map_chart(data), cumulative_chart(data)]
    if data.targets_left is not None:
        charts.append(targets_chart(data.targets_left))
    charts += [mix_chart(mix, number) for number, mix in enumerate(data.mixes)]
    if data.stage_seconds:
        charts.append(seconds_chart(data.stage_seconds))
    return charts


def sensible_end(gains: np.ndarray) -> SensibleEnd | None:
    """Find the smallest k after which no pick adds as much as a tenth of the mean gain of the first k.

    Scale-free, and no later pick is overlooked: gains may rise again.

    Args:
        gains: (n,) gain of each pick.

    Returns:
        That end; None if k is n.
    """
    gains = np.asarray(gains, dtype=np.float64)
    if not len(gains):
        return None
    total = np.cumsum(gains)
    count = np.arange(1, len(gains) + 1)
    largest_later = np.append(np.maximum.accumulate(gains[::-1])[::-1][1:], -np.inf)
    picks = int(np.argmax(largest_later < SMALL * total / count)) + 1
    if picks == len(gains) or total[-1] <= 0:
        return None
    return SensibleEnd(picks, min(1.0, float(total[picks - 1] / total[-1])))


def end_in_words(gains: np.ndarray) -> str:
    """Return one or two sentences on where to stop, and why."""
    end = sensible_end(gains)
    if len(gains) == 1:
        return "One pick alone does not tell where to stop."
    if end is None:
        return "No sensible end yet: the last picks still add at least a tenth of what picks added on average."
    return (
        f"{plural(end.picks, 'pick')} would do: they give {percent(end.share)} of all that was gained, and each pick "
        "after them adds less than a tenth of what they added on average (the dotted line)."
    )


def uncertainty_chart(data: ReportData) -> Chart:
    """Draw the share of the targets' prior variance left after each pick."""
    left = np.asarray(data.remaining_uncertainty, dtype=np.float64)
    figure = _curve(np.arange(len(left)), left, "uncertainty", "after %{x:,}: %{y:.4~%} left<extra></extra>")
    figure.update_layout(xaxis_title="picks", yaxis={"tickformat": ".3~%", "rangemode": "tozero"})
    return Chart(
        "uncertainty",
        "Uncertainty left",
        "Share of the targets' prior variance left after each pick: lower is better.",
        f"A curve from {percent(left[0])} before the first pick to {percent(left[-1])} after the last.",
        figure,
        logarithmic="x" if data.num_picks >= _LOGARITHMIC_POINTS else "",
    )


def gain_chart(data: ReportData) -> Chart:
    """Draw the gain of each pick given the picks before it."""
    gains = np.asarray(data.gains, dtype=np.float64)
    ranks = np.arange(1, len(gains) + 1)
    figure = _curve(ranks, gains, "gain", "pick %{x:,}: %{y:.4~g}<extra></extra>")
    figure.update_layout(xaxis_title="pick", yaxis={"title": data.gain_unit, "rangemode": "tozero"})
    end = sensible_end(gains)
    if end is not None:
        _mark_end(figure, end.picks, gains)
    first, last = amount(gains[0], data.gain_unit), amount(gains[-1], data.gain_unit)
    return Chart(
        "gain",
        "What each pick added",
        f"Gain of each pick given all picks before it. {end_in_words(gains)}",
        f"The first pick adds {first}, the last {last}. {end_in_words(gains)}",
        figure,
        logarithmic="xy" if len(gains) >= _LOGARITHMIC_POINTS and (gains > 0).all() else "",
    )


def cumulative_chart(data: ReportData) -> Chart:
    """Draw the gain of the first k picks together."""
    total = data.cumulative_gains
    ranks = np.arange(len(total) + 1)
    figure = _curve(ranks, np.concatenate([[0.0], total]), "cumulative", "first %{x:,} picks: %{y:.4~g}<extra></extra>")
    figure.update_layout(xaxis_title="picks", yaxis={"title": data.gain_unit, "rangemode": "tozero"})
    return Chart(
        "cumulative",
        "What the picks add up to",
        "Gain of the first picks together: a bend shows where a smaller budget would do.",
        f"A curve from 0 to {amount(float(total[-1]), data.gain_unit)}.",
        figure,
    )


def map_chart(data: ReportData) -> Chart:
    """Draw pool sample, targets and picks on the plane of the two main axes."""
    pool = np.asarray(data.map_pool)[even_points(len(data.map_pool), MAP_POOL_POINTS)]
    targets = np.asarray(data.map_targets)[even_points(len(data.map_targets), MAP_TARGET_POINTS)]
    # Early picks matter most: drawn last, they lie on top.
    drawn = early_points(data.num_picks, MAP_PICK_POINTS)[::-1]
    figure = empty_figure()
    figure.add_scatter(**_points(pool), name="pool sample", meta="pool", hoverinfo="skip", marker={"size": 4})
    figure.add_scatter(**_points(np.asarray(data.map_picks)[drawn]), **_pick_style(data, drawn))
    figure.add_scatter(
        **_points(targets),
        name="targets",
        meta="target",
        marker={"size": 8, "symbol": "diamond", "line": {"width": 1}},
        hovertemplate="target<extra></extra>",
    )
    axis = {"showticklabels": False, "zeroline": False, "showgrid": False}
    figure.update_layout(
        xaxis=axis,
        yaxis=axis,
        margin={"l": 8, "r": 8, "t": 32, "b": 8},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
    )
    all_drawn = len(drawn) == data.num_picks
    some = "" if all_drawn else f" {len(drawn):,} of the {data.num_picks:,} picks are drawn."
    return Chart(
        "map",
        "Where the picks lie",
        "Rows that lie close are alike; the strongest colour is the first pick. "
        f"The two axes show {percent(data.map_explained)} of the variation, so some distances mislead.{some}",
        f"A scatter map of {len(pool):,} pool rows, {len(targets):,} targets and {len(drawn):,} picks.",
        figure,
        wide=True,
    )


def text_of(data: ReportData) -> Sequence[object] | None:
    """Return the column of the rows' text: of those of strings the one with the longest values; None without any."""
    texts = {
        name: sum(len(value) for value in values if isinstance(value, str))
        for name, values in data.columns.items()
        if any(isinstance(value, str) for value in values)
    }
    return data.columns[max(texts, key=lambda name: texts[name])] if texts else None


def _curve(x: np.ndarray, y: np.ndarray, role: str, hover: str) -> go.Figure:
    """Return a figure with one curve; few points are marked, so that a single one can be seen."""
    kept = curve_points(y)
    figure = empty_figure()
    figure.add_scatter(
        x=x[kept],
        y=y[kept],
        mode="lines+markers" if len(x) <= _MARKED_POINTS else "lines",
        line={"width": 2},
        meta=role,
        hovertemplate=hover,
    )
    figure.update_layout(hovermode="x", xaxis={"zeroline": False})
    if len(x) <= 10:
        # Few picks: whole numbers on the axis, and room around a lone point.
        figure.update_xaxes(dtick=1, range=[x[0] - 0.5, x[-1] + 0.5])
    return figure


def _mark_end(figure: go.Figure, picks: int, gains: np.ndarray) -> None:
    """Draw a dotted line at the sensible end, named on its roomier side; it stands on logarithmic axes, too."""
    positive = gains[gains > 0]
    side = "right" if picks < len(gains) / 2 else "left"
    figure.add_scatter(
        x=[picks, picks],
        y=[float(positive.min()), float(positive.max())],
        mode="lines+text",
        text=["", f" {picks:,} would do "],
        textposition=f"middle {side}",
        line={"dash": "dot", "width": 2},
        meta="guide",
        hovertemplate=f"{picks:,} picks would do<extra></extra>",
    )


def _points(coordinates: np.ndarray) -> dict[str, object]:
    return {"x": coordinates[:, 0], "y": coordinates[:, 1], "mode": "markers"}


def _pick_style(data: ReportData, drawn: np.ndarray) -> dict[str, object]:
    """Return marker and hover text of the picks `drawn`; ranks shade from the first pick to the last."""
    passages, nearest = text_of(data), data.nearest_shown
    text = [
        f"pick {k + 1:,}: {label(data.ids[k], 60)}<br>gain {data.gains[k]:.4g} {data.gain_unit}"
        f"<br>nearest target {label(data.nearest_ids[k], 60)} (cosine {data.nearest_cosines[k]:.3f})"
        f"{_passage(nearest[k], 'target: ') if len(nearest) and isinstance(nearest[k], str) else ''}"
        f"{_passage(passages[k]) if passages else ''}"
        for k in drawn
    ]
    last = max(data.num_picks, 2)
    bar = {"thickness": 10, "len": 0.8, "outlinewidth": 0, "tickformat": ",d"}
    return {
        "name": "picks",
        "meta": "pick",
        "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "size": 9 if data.num_picks <= 500 else 6 if data.num_picks <= 2000 else 4,
            "color": drawn + 1,
            "cmin": 1,
            "cmax": last,
            "showscale": data.num_picks > 1,
            "colorbar": bar,
            "line": {"width": 0.5},
        },
    }


def _passage(text: object, before: str = "") -> str:
    """Return the beginning of a text for a hover label, in lines that a phone can show."""
    lines = textwrap.wrap(before + clip(plain(text), _PASSAGE_CHARS), 40)
    return "".join(f"<br>{label(line, 60)}" for line in lines)
