"""The page of an active fine-tuning: curves, how it ended, classes and picks, in one self-contained file of HTML."""

from __future__ import annotations

from ray_itl.report.class_table import class_table
from ray_itl.report.document import assemble
from ray_itl.report.learning_charts import make_learning_charts, variant_styles
from ray_itl.report.learning_data import LearningReport, LearningRow
from ray_itl.report.learning_words import headline, on_task_digits, score_digits, seeds, short, tiles, times, with_error
from ray_itl.text import plain


def render_learning(report: LearningReport) -> str:
    """Return the report as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own two scripts run.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    styles = variant_styles([curve.name for curve in report.curves], report.reference)
    values = {
        "title": report.title,
        "headline": headline(report),
        "warnings": [plain(warning) for warning in report.warnings],
        "tiles": tiles(report),
        "key": [(short(name), style) for name, style in styles.items()] if len(styles) > 1 else [],
        "score_name": plain(report.score_name),
        "measured": report.reference_row is not None,
        "rows": _cells(report),
        "styles": styles,
        "table_caption": _table_caption(report),
        "classes": class_table(report.classes),
        "picked": report.picked,
        "facts": {plain(label): plain(value) for label, value in report.facts.items()},
    }
    return assemble(
        "learning.html.j2",
        make_learning_charts(report),
        values,
        styles=["page.css", "learning.css"],
        scripts=["charts.js", "learning.js"],
    )


def _cells(report: LearningReport) -> list[dict[str, object]]:
    """Return the text of every row of the table."""
    digits = score_digits(report)
    return [
        {
            "variant": row.name,
            "name": short(row.name),
            "score": with_error(row.score, row.score_error, digits),
            "on_task": with_error(row.on_task, row.on_task_error, on_task_digits(report)),
            "needed": "never" if row.labels_needed is None else f"{row.labels_needed:,}",
            "ratio": _ratio(row),
        }
        for row in report.rows
    ]


def _ratio(row: LearningRow) -> str:
    return "" if row.ratio is None else f"{times(row.ratio)}×"


def _table_caption(report: LearningReport) -> str:
    reference = report.reference_row
    if reference is None:
        return seeds(report)
    name = short(reference.name)
    return (
        f"{seeds(report)} Labels needed are the fewest at which the mean is as good as {name}'s after all its "
        f"{report.budget(reference.name):,}; the ratio says how many times fewer that is."
    )
