"""The HTML report of a selection: what was picked, how informative it was, and how the picks lie.

Importing this package needs neither plotly nor jinja2; rendering a page does, and says so if one is missing.
"""

from ray_itl.report.data import ComparisonRow, ReportData
from ray_itl.report.optional import MissingReportDependencyError
from ray_itl.report.page import render, write_report
from ray_itl.report.projection import Projection, nearest_targets, project

__all__ = [
    "ComparisonRow",
    "MissingReportDependencyError",
    "Projection",
    "ReportData",
    "nearest_targets",
    "project",
    "render",
    "write_report",
]
