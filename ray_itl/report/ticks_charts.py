"""The charts of a report over ticks, as plotly figures."""

from collections.abc import Sequence

from ray_itl.report.figures import Chart, empty_figure, label
from ray_itl.report.ticks_data import TickPoint, TicksReport
from ray_itl.report.words import amount, percent, plural

_NAMED_TICKS = 12


def make_ticks_charts(report: TicksReport) -> list[Chart]:
    """The charts of `report`, in the order of the page.

    Raises:
        MissingReportDependencyError: plotly is not installed.
    """
    return [left_chart(report), gain_chart(report), picks_chart(report)]


def left_chart(report: TicksReport) -> Chart:
    """Share of the targets' prior variance left after each tick."""
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
    """What the picks of each tick are worth."""
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
    """How many rows each tick picked."""
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
    """An axis of ticks in their order, by name while the names fit."""
    axis: dict[str, object] = {"title": "tick", "zeroline": False, "range": [first - 0.6, len(ticks) + 0.6]}
    if len(ticks) <= _NAMED_TICKS:
        names = [label(tick.name, 12) for tick in ticks]
        axis |= {"tickmode": "array", "tickvals": list(range(1, len(ticks) + 1)), "ticktext": names, "title": ""}
    return axis
