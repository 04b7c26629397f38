"""What is logged of a selection and of a round: options as text, figures by step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ray_itl.selection import Selection
from ray_itl.tracking.log import Point

_MOST_STEPS = 1000


def option_texts(settings: Any) -> dict[str, str]:
    """Return every option of some settings, a dataclass of groups, by its name, as in "selection.n"."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in _leaves(asdict(settings))}


def selection_points(selection: Selection) -> list[Point]:
    """Return the curves of a selection, step k being after k picks (at most 1,000 of them), and its totals."""
    n = len(selection)
    steps = np.unique(np.linspace(0, n, min(n + 1, _MOST_STEPS)).astype(int)).tolist()
    gains, summed = selection.gains, np.cumsum(selection.gains)
    points: list[Point] = []
    for step in steps:
        figures = {"uncertainty_left": float(selection.remaining_uncertainty[step])}
        if step:
            figures |= {"gain": float(gains[step - 1]), "cumulative_gain": float(summed[step - 1])}
        points.append((step, figures))
    metrics = selection.metrics
    totals = {f"total/{name}": float(metrics[name]) for name in ("num_picks", "total_gain", "passes", "num_rows")}
    seconds = {f"seconds/{name}": float(value) for name, value in metrics["seconds"].items()}
    return [*points, (n, {**totals, "total/seconds": sum(seconds.values()), **seconds})]


def progress_figures(status: Mapping[str, Any]) -> dict[str, float]:
    """Return what the status of a run says of its progress."""
    names = ("gain", "passes", "rows_per_s", "eta_s")
    return {f"progress/{name}": float(status[name]) for name in names if status.get(name) is not None}


def round_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a round's record, nested ones with a slash; what is no finite number is left out."""
    flat = {name.replace(".", "/"): value for name, value in _leaves(record) if name != "round"}
    return {
        name: float(value)
        for name, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _leaves(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found += _leaves(inner, f"{prefix}{name}.")
        else:
            found.append((prefix + str(name), inner))
    return found
