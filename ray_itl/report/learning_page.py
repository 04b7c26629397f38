"""The page of an active fine-tuning: curves, how it ended, classes and picks, in one self-contained file of HTML."""

from __future__ import annotations

import math

from ray_itl.report.class_table import class_table
from ray_itl.report.document import assemble
from ray_itl.report.learning_charts import make_learning_charts, variant_styles
from ray_itl.report.learning_data import LearningReport, LearningRow
from ray_itl.report.learning_savings import goal_words, needed_cell, saving_cell, saving_sentence
from ray_itl.report.learning_words import (
    decimals,
    headline,
    on_task_digits,
    score_digits,
    seeds,
    short,
    tiles,
    times,
    with_error,
)
from ray_itl.text import percent, plain


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
        "has_areas": any(math.isfinite(row.area) for row in report.rows),
        "table_caption": _table_caption(report),
        "goals": [f"{percent(goal.share)}: {_score(report, goal.score)}" for goal in report.goals],
        "goals_caption": _goals_caption(report),
        "needed": [{**_named(row), "cells": [needed_cell(each) for each in row.needed]} for row in report.rows],
        "beside": _beside(report) if len(report.rows) > 1 else [],
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
            **_named(row),
            "score": with_error(row.score, row.score_error, digits),
            "area": with_error(row.area, row.area_error, digits),
            "on_task": with_error(row.on_task, row.on_task_error, on_task_digits(report)),
            "needed": "never" if row.labels_needed is None else f"{row.labels_needed:,}",
            "ratio": _ratio(row),
        }
        for row in report.rows
    ]


def _named(row: LearningRow) -> dict[str, object]:
    return {"variant": row.name, "name": short(row.name)}


def _beside(report: LearningReport) -> list[dict[str, object]]:
    """Return, for each reference, a table of the variants that are held against it, and the same in sentences."""
    names = dict.fromkeys(each.reference for row in report.rows for each in row.beside)
    return [_beside_one(report, name) for name in names]


def _beside_one(report: LearningReport, reference: str) -> dict[str, object]:
    budget, rows, sentences = report.budget(reference), [], []
    goals = [goal_words(goal, report.score_name, report.higher_is_better) for goal in report.goals]
    pairs = [(row, each) for row in report.rows for each in row.beside if each.reference == reference]
    digits = decimals([each.score for _, each in pairs], [each.score_error for _, each in pairs])
    for row, each in pairs:
        differences = ((each.score, each.score_error), (each.area, each.area_error))
        cells = [f"{'+' if mean > 0 else ''}{with_error(mean, error, digits)}" for mean, error in differences]
        cells += [saving_cell(saving, budget) for saving in each.savings]
        rows.append({**_named(row), "cells": cells})
        sentences += [
            saving_sentence(row.name, reference, goal, saving, budget)
            for saving, goal in zip(each.savings, goals, strict=True)
        ]
    return {"name": short(reference), "rows": rows, "sentences": sentences}


def _score(report: LearningReport, score: float) -> str:
    return f"{score:,.{score_digits(report)}f}"


def _goals_caption(report: LearningReport) -> str:
    of = "score" if report.higher_is_better else "improvement over no training"
    return (
        f"Labels until the mean {plain(report.score_name)} reaches a share of the best {of} of any variant. In "
        "brackets: an interval of 95% (bootstrap over seeds)."
    )


def _ratio(row: LearningRow) -> str:
    return "" if row.ratio is None else f"{times(row.ratio)}×"


def _table_caption(report: LearningReport) -> str:
    reference = report.reference_row
    if reference is None:
        return seeds(report)
    name = short(reference.name)
    area = "The area under the curve is the mean score on the way. " if math.isfinite(reference.area) else ""
    return (
        f"{seeds(report)} {area}Labels needed are the fewest at which the mean is as good as {name}'s after all its "
        f"{report.budget(reference.name):,}; the ratio says how many times fewer that is."
    )
