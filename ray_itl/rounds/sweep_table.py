"""What a sweep found, as Markdown and as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ray_itl.report.learning_data import LearningRow
from ray_itl.report.learning_savings import goal_words, needed_cell, saving_cell, saving_sentence
from ray_itl.rounds.comparison import Comparison
from ray_itl.rounds.scores import Score
from ray_itl.text import percent


def short_text(found: Comparison, score: Score) -> str:
    """Return how the variants ended, and the labels that they needed."""
    return "\n\n".join("\n".join(lines) for lines in (_endings(found, score), _goals(found, score)))


def sweep_text(found: Comparison, score: Score, notes: Sequence[str] = ()) -> str:
    """Return all tables of a comparison and its sentences; what is amiss comes first."""
    amiss = ["\n".join(f"Note: {note}." for note in notes)] if notes else []
    beside = ["\n".join(lines) for name in found.references if (lines := _beside(found, score, name))]
    return "\n\n".join([*amiss, short_text(found, score), *beside])


def sweep_figures(found: Comparison, score: Score) -> dict[str, Any]:
    """Return a comparison for machines: null where a number is not known, or is never reached."""
    rows = [_figures(row) for row in found.rows]
    goals = [goal._asdict() for goal in found.goals]
    return {
        "score": score.name,
        "higher_is_better": score.higher_is_better,
        "budget": found.budget,
        "goals": goals,
        "variants": rows,
    }


def _endings(found: Comparison, score: Score) -> list[str]:
    counts = sorted({curve.num_seeds for curve in found.curves})
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    ends = sorted({int(curve.num_labelled[-1]) for curve in found.curves})
    budget = f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,}"
    to_reach = f" labels to reach the end of {found.references[0]} | ratio |" if found.references else ""
    lines = [
        f"After {budget} labels, {seeds}, mean ± standard error; the area under the curve is up to {found.budget:,} "
        "labels, over their number:",
        "",
        f"| rule | {score.title} | area | picks on task |{to_reach}",
        f"|---|---|---|---|{'---|---|' if to_reach else ''}",
    ]
    for row in found.rows:
        needed = "never" if row.labels_needed is None else f"{row.labels_needed:,}"
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(
            f"| {row.name} | {_mean(row.score, row.score_error)} | {_mean(row.area, row.area_error)} "
            f"| {_mean(row.on_task, row.on_task_error, 1)} |{f' {needed} | {ratio} |' if to_reach else ''}"
        )
    return lines


def _goals(found: Comparison, score: Score) -> list[str]:
    of, start = f"the best {score.title}", ""
    if not score.higher_is_better:
        of, start = f"the best improvement of {score.title}", ", every seed moved to the mean start"
    heads = [f"{percent(goal.share)}: {goal.score:.4f}" for goal in found.goals]
    return [
        f"Labels until the mean reaches a share of {of} of any rule, "
        f"with a 95% interval (bootstrap over seeds{start}):",
        "",
        f"| rule | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
        *(f"| {row.name} | {' | '.join(map(needed_cell, row.needed))} |" for row in found.rows),
    ]


def _beside(found: Comparison, score: Score, reference: str) -> list[str]:
    budget = next(int(curve.num_labelled[-1]) for curve in found.curves if curve.name == reference)
    heads = [f"labels for {percent(goal.share)}" for goal in found.goals]
    lines = [
        f"Beside {reference}, seed by seed: mean difference ± standard error after {found.budget:,} labels, and how "
        "many times fewer labels (95% interval):",
        "",
        f"| rule | {score.title} | area | {' | '.join(heads)} |",
        f"|---|---|---|{'---|' * len(heads)}",
    ]
    sentences: list[str] = []
    for row in found.rows:
        for beside in row.beside:
            if beside.reference != reference:
                continue
            cells = [saving_cell(saving, budget) for saving in beside.savings]
            score_difference = _mean(beside.score, beside.score_error, sign="+")
            area_difference = _mean(beside.area, beside.area_error, sign="+")
            lines.append(f"| {row.name} | {score_difference} | {area_difference} | {' | '.join(cells)} |")
            for saving, goal in zip(beside.savings, found.goals, strict=True):
                words = goal_words(goal, score.title, score.higher_is_better)
                sentences.append(f"- {saving_sentence(row.name, reference, words, saving, budget)}")
    return [*lines, "", *sentences] if sentences else []


def _mean(value: float, error: float | None, digits: int = 4, sign: str = "") -> str:
    told = f"{value:{sign}.{digits}f}"
    return told if error is None or not math.isfinite(error) else f"{told} ± {error:.{digits}f}"


def _figures(row: LearningRow) -> dict[str, Any]:
    flat = {name: value for name, value in row._asdict().items() if name not in ("name", "needed", "beside")}
    beside = [{**each._asdict(), "savings": [saving._asdict() for saving in each.savings]} for each in row.beside]
    return _known({"variant": row.name, **flat, "needed": [each._asdict() for each in row.needed], "beside": beside})


def _known(value: Any) -> Any:
    """Return nested values with null for what is no number, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _known(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
