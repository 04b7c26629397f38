"""HTML reports: of a selection (what was picked, how informative it was, how the picks lie), and of an active
fine-tuning (how the score rose with the labels, rule by rule).

Importing this package needs neither plotly nor jinja2; rendering a page does, and says so if one is missing.
"""

from ray_itl.report.data import ComparisonRow, ReportData
from ray_itl.report.learning_data import LearningCurve, LearningReport, LearningRow, Trail
from ray_itl.report.learning_page import render_learning, write_learning_report
from ray_itl.report.optional import MissingReportDependencyError
from ray_itl.report.page import render, write_report
from ray_itl.report.projection import Projection, nearest_targets, project

__all__ = [
    "ComparisonRow",
    "LearningCurve",
    "LearningReport",
    "LearningRow",
    "MissingReportDependencyError",
    "Projection",
    "ReportData",
    "Trail",
    "nearest_targets",
    "project",
    "render",
    "render_learning",
    "write_learning_report",
    "write_report",
]
