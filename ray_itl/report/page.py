"""The page of a selection: one self-contained file of HTML, with its style, scripts and data inside."""

from pathlib import Path

from ray_itl.report.charts import make_charts
from ray_itl.report.data import ReportData
from ray_itl.report.document import assemble, write_page
from ray_itl.report.mix_charts import NAMED_TARGETS
from ray_itl.report.optional import load
from ray_itl.report.table import table_text
from ray_itl.report.uses import shown_uses
from ray_itl.report.words import clip, facts, headline, percent, plain, tiles

_WORST_TARGETS = 10


def render(data: ReportData) -> str:
    """The report as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own two scripts run.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
    """
    values = {
        "title": data.title,
        "headline": headline(data),
        "warnings": [plain(warning) for warning in data.warnings],
        "tiles": tiles(data),
        "comparison": [
            {
                "name": clip(plain(row.name), 60),
                "left": percent(row.remaining_uncertainty),
                "wanted": f"{row.wanted:,}",
                "share": percent(row.share),
                "width": f"{row.share:.1%}",
            }
            for row in data.comparison
        ],
        "comparison_caption": data.comparison_caption,
        "uses": shown_uses(data.uses),
        "worst_targets": _worst_targets(data),
        "facts": facts(data),
        "table": load("markupsafe").Markup(table_text(data)),
    }
    return assemble(
        "template.html.j2",
        make_charts(data),
        values,
        styles=["template.css"],
        scripts=["template.charts.js", "template.picks.js"],
    )


def _worst_targets(data: ReportData) -> list[dict[str, str]]:
    """The ten targets of which most is left, where the chart cannot name each."""
    if data.targets_left is None or len(data.targets_left.left) <= NAMED_TARGETS:
        return []
    return [
        {"name": clip(plain(name), 80), "left": percent(left), "width": f"{min(left, 1.0):.1%}"}
        for name, left in data.targets_left.worst(_WORST_TARGETS)
    ]


def write_report(data: ReportData, path: str | Path) -> Path:
    """Render `data` into the file `path`, which appears whole or not at all; returns the path.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
        OSError: the directory of `path` does not exist or cannot be written.
    """
    return write_page(render(data), path)
