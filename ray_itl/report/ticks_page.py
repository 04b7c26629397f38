"""The page over the ticks of a scheduled curation: what it shows as plain values, its charts and its words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from ray_itl.errors import InputError
from ray_itl.report.document import Tile, assemble
from ray_itl.report.figures import Chart, empty_figure, label
from ray_itl.text import amount, clip, number, percent, plain, plural

_NAMED_TICKS = 12
_SHORT_NAME = 24
"""A name as long as a date and time is never broken."""
_ROWS = ("selection.jsonl", "selection.csv", "selection.parquet")


class TickPoint(NamedTuple):
    """One tick."""

    name: str
    """What it is called."""
    time: float
    """When it was published, seconds since 1970."""
    new_files: int
    """Files that no tick saw before."""
    new_rows: int
    """Their rows."""
    picks: int
    """Rows picked."""
    gain: float
    """What they are worth given all earlier picks."""
    uncertainty_left: float
    """Share of the targets' prior variance left after it."""
    stop: str
    """Why it picked no more, in words."""
    path: str
    """The folder of its results, relative to the page."""
    files: Sequence[str] = ()
    """Names of the files there."""


@dataclass(frozen=True, kw_only=True)
class TicksReport:
    """The ticks of one state directory, first to last. Text may come from anywhere: the page escapes all of it.

    Raises:
        InputError: no ticks.
    """

    title: str
    """Heading of the page."""
    unit: str
    """What gains are measured in: "nats" or "variance"."""
    ticks: Sequence[TickPoint]
    """At least one."""
    uncertainty_at_first: float = 1.0
    """Share of the targets' prior variance that was left before the first tick."""

    def __post_init__(self) -> None:
        if not self.ticks:
            raise InputError("A report over ticks needs at least one tick.")

    @property
    def num_picks(self) -> int:
        """Picks of all ticks."""
        return sum(tick.picks for tick in self.ticks)

    @property
    def total_gain(self) -> float:
        """What all picks are worth."""
        return sum(tick.gain for tick in self.ticks)


def render_ticks(report: TicksReport) -> str:
    """Return the report as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own two scripts run.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    values = {
        "title": report.title,
        "headline": _headline(report),
        "warnings": [],
        "tiles": _tiles(report),
        "unit": report.unit,
        "rows": [_cells(tick) for tick in reversed(report.ticks)],
        "facts": {},
    }
    return assemble(
        "ticks.html.j2",
        make_ticks_charts(report),
        values,
        styles=["page.css", "learning.css"],
        scripts=["charts.js"],
    )


def make_ticks_charts(report: TicksReport) -> list[Chart]:
    """Return the charts of `report`, in the order of the page.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    return [left_chart(report), gain_chart(report), picks_chart(report)]


def left_chart(report: TicksReport) -> Chart:
    """Draw the share of the targets' prior variance left after each tick."""
    ticks = report.ticks
    left = [report.uncertainty_at_first, *(tick.uncertainty_left for tick in ticks)]
    words = ["before the first tick", *(label(tick.name, 40) for tick in ticks)]
    figure = empty_figure()
    figure.add_scatter(
        x=list(range(len(left))),
        y=left,
        mode="lines+markers",
        line={"width": 2, "shape": "hv"},
        meta="uncertainty",
        text=[f"{word}: {percent(value)} left" for word, value in zip(words, left, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_layout(
        hovermode="closest", xaxis=_axis(ticks, first=0), yaxis={"tickformat": ".3~%", "rangemode": "tozero"}
    )
    return Chart(
        "left",
        "Uncertainty left over time",
        "Share of the targets' prior variance that all picks so far leave: lower is better.",
        f"A curve from {percent(left[0])} before the first tick to {percent(left[-1])} after the last.",
        figure,
        wide=True,
    )


def gain_chart(report: TicksReport) -> Chart:
    """Draw what the picks of each tick are worth."""
    words = [
        f"{label(t.name, 40)}: {amount(t.gain, report.unit)}, from {plural(t.new_rows, 'new row')}"
        for t in report.ticks
    ]
    best = max(report.ticks, key=lambda tick: tick.gain)
    return _bars(
        report.ticks,
        [tick.gain for tick in report.ticks],
        words,
        report.unit,
        Chart(
            "gain",
            "What each tick was worth",
            "Gain of a tick's picks given all earlier picks: where it stays near zero, the new data says little new.",
            f"Bars; the highest is {amount(best.gain, report.unit)}.",
            empty_figure(),
        ),
    )


def picks_chart(report: TicksReport) -> Chart:
    """Draw how many rows each tick picked."""
    return _bars(
        report.ticks,
        [tick.picks for tick in report.ticks],
        [f"{label(tick.name, 40)}: {plural(tick.picks, 'pick')}" for tick in report.ticks],
        "picks",
        Chart(
            "picks",
            "Rows picked",
            "Fewer than asked for where nothing more was worth it, or no rows were left.",
            f"Bars that add up to {plural(report.num_picks, 'pick')}.",
            empty_figure(),
        ),
    )


def _bars(ticks: Sequence[TickPoint], heights: Sequence[float], words: Sequence[str], unit: str, chart: Chart) -> Chart:
    """Draw a bar for each tick on a chart's figure."""
    chart.figure.add_bar(
        x=list(range(1, len(ticks) + 1)),
        y=list(heights),
        meta="bar",
        hovertext=list(words),
        hovertemplate="%{hovertext}<extra></extra>",
    )
    chart.figure.update_layout(bargap=0.25, xaxis=_axis(ticks, first=1), yaxis={"title": unit, "rangemode": "tozero"})
    return chart


def _axis(ticks: Sequence[TickPoint], first: int) -> dict[str, object]:
    """Return an axis of ticks in their order, by name while the names fit."""
    axis: dict[str, object] = {
        "title": "tick",
        "zeroline": False,
        "automargin": True,
        "range": [first - 0.6, len(ticks) + 0.6],
    }
    if len(ticks) <= _NAMED_TICKS:
        names = [label(tick.name, 12) for tick in ticks]
        axis |= {"tickmode": "array", "tickvals": list(range(1, len(ticks) + 1)), "ticktext": names, "title": ""}
    return axis


def _headline(report: TicksReport) -> str:
    left = percent(report.ticks[-1].uncertainty_left)
    return (
        f"{plural(report.num_picks, 'row')} picked in {plural(len(report.ticks), 'tick')}: "
        f"{amount(report.total_gain, report.unit)} in all, with {left} of the targets' prior uncertainty left."
    )


def _tiles(report: TicksReport) -> list[Tile]:
    last, idle = report.ticks[-1], sum(tick.picks == 0 for tick in report.ticks)
    return [
        Tile("Last tick", clip(plain(last.name), 40), clip(plain(last.stop), 100)),
        Tile("Its picks", f"{last.picks:,}", f"from {plural(last.new_rows, 'new row')}"),
        Tile("Its worth", amount(last.gain, report.unit), ""),
        Tile("Uncertainty left", percent(last.uncertainty_left), ""),
        Tile("Ticks", f"{len(report.ticks):,}", f"{idle:,} with nothing worth adding" if idle else ""),
    ]


def _cells(tick: TickPoint) -> dict[str, object]:
    """Return the text of one row of the table, and its links as words and addresses."""
    return {
        "name": plain(tick.name),
        "is_short": len(plain(tick.name)) <= _SHORT_NAME,
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime(tick.time)),
        "files": f"{tick.new_files:,}",
        "rows": f"{tick.new_rows:,}",
        "picks": f"{tick.picks:,}",
        "gain": number(tick.gain),
        "left": percent(tick.uncertainty_left),
        "stop": plain(tick.stop),
        "links": [(words, _address(tick.path, name)) for words, name in _linked(tick.files)],
    }


def _linked(files: Sequence[str]) -> list[tuple[str, str]]:
    """Return words and name of each file that a reader may want: the report, the rows as a trainer reads them, others.

    Whole rows, where they are written, stand in place of the table of picks.
    """
    rows = next((name for name in _ROWS if name in files), None)
    wanted = [("report", "report.html"), ("rows", rows), ("skipped", "skipped.parquet")]
    return [(words, name) for words, name in wanted if name in files]


def _address(path: str, name: str) -> str:
    """Return a relative link, whatever a path is made of: it cannot name a scheme or another host."""
    return "./" + quote(f"{path}/{name}")
