"""What a notebook shows of results: small tables of HTML, and the curve of a selection's gains.

All text from data is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ray_itl.report.figures import load_library
from ray_itl.text import clip, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MAX_POINTS = 4000
_MAX_ROWS = 10
_MAX_COLUMNS = 9
_MAX_CHARACTERS = 60


def gain_figure(gains: np.ndarray, remaining_uncertainty: np.ndarray, unit: str) -> go.Figure:
    """Draw two charts, one above the other, over the rank of the picks.

    Args:
        gains: (n,) gain of each pick given those before it, in `unit`; n may be 0.
        remaining_uncertainty: (n + 1,) share of the targets' prior variance left after 0 to n picks.
        unit: "nats" or "variance".

    Raises:
        MissingExtraError: plotly is not installed.
    """
    figure = load_library("plotly.subplots").make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
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
    """Return the places of the points to draw: all, or as many as a chart can show, the first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).astype(np.int64))


def table_html(heading: str, table: pa.Table, noun: str) -> str:
    """Return a heading and the first rows and columns of a table, and how many more there are of each.

    Args:
        heading: In a line above it.
        table: The results.
        noun: What a row is, such as "pick".
    """
    names = table.column_names[:_MAX_COLUMNS]
    rows = table.select(names).slice(0, _MAX_ROWS).to_pylist()
    left = [f"{len(table) - len(rows):,} more {noun}s"] * (len(table) > len(rows))
    left += [f"{table.num_columns - len(names)} more columns"] * (table.num_columns > len(names))
    body = "".join(_row("td", [row[name] for name in names]) for row in rows)
    note = f"<p>{' and '.join(left)} in .table</p>" if left else ""
    return (
        f"<div><p><code>{html.escape(heading)}</code></p><table><thead>{_row('th', names)}</thead>"
        f"<tbody>{body}</tbody></table>{note}</div>"
    )


def _row(tag: str, values: Sequence[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_cell(value)}</{tag}>' for value in values)}</tr>"


def _cell(value: Any) -> str:
    return html.escape(clip(_words(value), _MAX_CHARACTERS))


def _words(value: Any) -> str:
    """Return a value as text: numbers to four digits, of bytes how many there are."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(_words(each) for each in value[:_MAX_CHARACTERS])}]"
    return plain(value)
