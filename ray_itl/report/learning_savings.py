"""Labels needed, and how many times fewer they are than a reference's, in words and in cells of tables."""

from __future__ import annotations

import math

from ray_itl.report.learning_data import Goal, Needed, Saving
from ray_itl.report.learning_words import short, times
from ray_itl.text import percent, plain, plural

_ALIKE = 0.005


def needed_cell(needed: Needed) -> str:
    """Return labels needed with their interval: 40 (20 to never)."""
    if math.isnan(needed.labels):
        return "unknown"
    if math.isnan(needed.low) or math.isinf(needed.low):  # of one seed, or never in all draws
        return _labels(needed.labels)
    return f"{_labels(needed.labels)} ({_labels(needed.low)} to {_labels(needed.high)})"


def saving_cell(saving: Saving, budget: int) -> str:
    """Return how many times fewer labels than a reference with so many: 2.1× (1.4 to 3.0), or over 4.0×."""
    if math.isnan(saving.times):
        return "neither" if math.isinf(saving.labels) else "unknown"
    if saving.times == 0:
        return "never"
    words = f"{times(saving.times)}×"
    if math.isinf(saving.times):
        words = f"over {times(budget / saving.labels)}×" if saving.labels else "at once"
    interval = _interval(saving.low, saving.high)
    return f"{words} ({interval})" if interval else words


def goal_words(goal: Goal, score_name: str, higher_is_better: bool) -> str:
    """Return a goal as in a sentence: accuracy 0.8412 (90% of the best)."""
    of = "the best" if higher_is_better else "the best improvement"
    return f"{plain(score_name)} {goal.score:.4f} ({percent(goal.share)} of {of})"


def saving_sentence(name: str, reference: str, goal: str, saving: Saving, budget: int) -> str:
    """Say how many times fewer labels a variant needs for a goal (`goal_words`) than a reference of so many labels."""
    name, reference = short(name), short(reference)
    if math.isnan(saving.times):
        return f"Neither {name} nor {reference} reaches {goal}."
    if saving.times == 0:
        return f"{name} never reaches {goal}; {reference} does."
    if saving.labels == 0 and math.isinf(saving.times):
        return f"{name} has {goal} before its first label; {reference} has not."
    if math.isinf(saving.times):
        fewer = f"{times(budget / saving.labels)} times fewer than its {budget:,} at least"
        bound = f" (95% interval: at least {times(saving.low)})" if 0 < saving.low < math.inf else ""
        return (
            f"{name} reaches {goal} with {plural(int(saving.labels), 'label')}; {reference} never does: {fewer}{bound}."
        )
    told = _interval(saving.low, saving.high)
    interval = f" (95% interval: {told})" if told else ""
    if abs(saving.times - 1) < _ALIKE:
        return f"{name} needs as many labels as {reference} to reach {goal}: 1.0 times{interval}."
    if saving.times > 1:
        return f"{name} needs {times(saving.times)} times fewer labels than {reference} to reach {goal}{interval}."
    told = _interval(_inverse(saving.high), _inverse(saving.low))
    interval = f" (95% interval: {told})" if told else ""
    many = f"{times(1 / saving.times)} times as many labels as"
    return f"{name} needs {many} {reference} to reach {goal}{interval}."


def _labels(count: float) -> str:
    return "never" if math.isinf(count) else f"{count:,.0f}"


def _inverse(value: float) -> float:
    return math.inf if value == 0 else 1 / value


def _interval(low: float, high: float) -> str:
    """Return an interval of ratios in words; nothing where it is not known."""
    if math.isnan(low):
        return ""
    if math.isinf(high):
        return "anything" if low == 0 else "" if math.isinf(low) else f"at least {times(low)}"
    return f"at most {times(high)}" if low == 0 else f"{times(low)} to {times(high)}"
