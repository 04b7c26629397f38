"""The page over the ticks of a scheduled curation, in one self-contained file of HTML."""

import time

from ray_itl.report.document import assemble
from ray_itl.report.ticks_charts import make_ticks_charts
from ray_itl.report.ticks_data import TickPoint, TicksReport
from ray_itl.report.words import Tile, amount, clip, number, percent, plain, plural


def render_ticks(report: TicksReport) -> str:
    """The report as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own two scripts run.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
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
        "template.ticks.html.j2",
        make_ticks_charts(report),
        values,
        styles=["template.css", "template.learning.css"],
        scripts=["template.charts.js"],
    )


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


def _cells(tick: TickPoint) -> dict[str, str]:
    """The text of one row of the table."""
    return {
        "name": plain(tick.name),
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime(tick.time)),
        "files": f"{tick.new_files:,}",
        "rows": f"{tick.new_rows:,}",
        "picks": f"{tick.picks:,}",
        "gain": number(tick.gain),
        "left": percent(tick.uncertainty_left),
        "stop": plain(tick.stop),
        "path": plain(tick.path),
    }
