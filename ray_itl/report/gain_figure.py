"""A figure of a selection on its own, for notebooks: what each pick was worth, and what uncertainty it left."""

from typing import TYPE_CHECKING

import numpy as np

from ray_itl.report.optional import load

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_POINTS = 4000


def gain_figure(gains: np.ndarray, remaining_uncertainty: np.ndarray, unit: str) -> "go.Figure":
    """Two charts, one above the other, over the rank of the picks.

    Args:
        gains: (n,) gain of each pick given those before it, in `unit`; n may be 0.
        remaining_uncertainty: (n + 1,) share of the targets' prior variance left after 0 to n picks.
        unit: "nats" or "variance".

    Raises:
        MissingReportDependencyError: plotly is not installed.
    """
    figure = load("plotly.subplots").make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    style = {"mode": "lines+markers" if len(gains) <= 60 else "lines", "showlegend": False}
    picks = _drawn(len(gains))
    figure.add_scatter(
        x=picks + 1, y=gains[picks], row=1, col=1, name="gain", hovertemplate="pick %{x:,}: %{y:.4~g}<extra></extra>",
        **style,
    )  # fmt: skip
    after = _drawn(len(remaining_uncertainty))
    figure.add_scatter(
        x=after, y=remaining_uncertainty[after], row=2, col=1, name="uncertainty left",
        hovertemplate="after %{x:,}: %{y:.3~%} left<extra></extra>", **style,
    )  # fmt: skip
    figure.update_yaxes(title=f"gain of each pick ({unit})", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="uncertainty left", tickformat=".0%", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title="picks", row=2, col=1)
    figure.update_layout(margin={"l": 56, "r": 16, "t": 16, "b": 48}, height=480)
    return figure


def _drawn(count: int) -> np.ndarray:
    """Places of the points to draw: all, or as many as a chart can show, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.int64))
