"""HTML reports: of a selection (what was picked, how informative it was, how the picks lie), of an active fine-tuning
(how the score rose with the labels, rule by rule), and of a scheduled curation (what each tick was worth).

Importing this package needs neither plotly nor jinja2; rendering a page does, and says so if one is missing.
"""

from ray_itl.report.data import ComparisonRow, ReportData
from ray_itl.report.learning_data import LearningCurve, LearningReport, LearningRow, Trail
from ray_itl.report.learning_page import render_learning, write_learning_report
from ray_itl.report.optional import MissingReportDependencyError
from ray_itl.report.page import render, write_report
from ray_itl.report.parts import Mix, PickReason, TargetsLeft, Use
from ray_itl.report.projection import Projection, project
from ray_itl.report.ticks_data import TickPoint, TicksReport
from ray_itl.report.ticks_page import render_ticks

__all__ = [
    "ComparisonRow",
    "LearningCurve",
    "LearningReport",
    "LearningRow",
    "MissingReportDependencyError",
    "Mix",
    "PickReason",
    "Projection",
    "ReportData",
    "TargetsLeft",
    "TickPoint",
    "TicksReport",
    "Trail",
    "Use",
    "project",
    "render",
    "render_learning",
    "render_ticks",
    "write_learning_report",
    "write_report",
]
