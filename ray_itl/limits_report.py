"""How far a selection used its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ray_itl.core.result import GreedyResult
from ray_itl.problem import Problem

_MAX_LINES = 10


def limits_used(problem: Problem, result: GreedyResult) -> list[dict[str, Any]]:
    """Return what a selection used (see `limits_used_by`)."""
    return limits_used_by(problem, [pick.cost for pick in result.picks], [pick.group for pick in result.picks])


def limits_used_by(problem: Problem, costs: Sequence[float], groups: Sequence[int]) -> list[dict[str, Any]]:
    """Return, for the budget and every bounded value of the quotas, what picks of these costs and groups use of it.

    Each entry has name, used, and min or max (absent where there is none); `unmet` is true for a missed minimum.
    """
    found: list[dict[str, Any]] = []
    limits = problem.limits
    if math.isfinite(limits.budget):
        found.append({"name": "budget", "used": math.fsum(costs), "max": limits.budget})
    if limits.quotas is None:
        return found
    quotas = replace(limits.quotas, picked=np.bincount(groups, minlength=len(limits.quotas.rows)))
    for quota, counts in zip(quotas.columns, quotas.counts, strict=True):
        for value, least, most, count in zip(quota.values, quota.least, quota.most, counts, strict=True):
            bounds = {"min": int(least)} if least else {}
            if most < problem.selection.n:
                bounds["max"] = int(most)
            if bounds:
                unmet = {"unmet": True} if count < least else {}
                found.append({"name": f"{quota.column}={value}", "used": int(count), **bounds, **unmet})
    return found


def limit_words(used: list[dict[str, Any]]) -> list[str]:
    """Return a line for the budget, every minimum, and every maximum that was reached; ten at most, the unmet first."""
    shown = [e for e in used if e["name"] == "budget" or "min" in e or e["used"] == e.get("max")]
    shown.sort(key=lambda entry: not entry.get("unmet", False))
    lines = []
    for entry in shown[:_MAX_LINES]:
        bounds = [f"{side} {entry[side]:,g}" for side in ("min", "max") if side in entry]
        missed = ": the minimum is not met, too few such rows could still be picked" if entry.get("unmet") else ""
        lines.append(f"{entry['name']}: {entry['used']:,g} ({', '.join(bounds)}){missed}")
    if len(shown) > _MAX_LINES:
        lines.append(
            f"and {len(shown) - _MAX_LINES:,} other limits that were reached or set a minimum: see metrics.json"
        )
    return lines
