"""What a learning report shows, in words and in rounded numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ray_itl.report.document import Tile
from ray_itl.report.learning_data import LearningReport, LearningRow
from ray_itl.text import clip, duration, percent, plain, plural

_NAME_CHARS = 60


def short(name: str) -> str:
    """Return a variant's name, not too long for a sentence."""
    return clip(plain(name), _NAME_CHARS)


def decimals(values: Sequence[float], errors: Sequence[float | None]) -> int:
    """Return the digits after the point that suit all of `values`: as many as the middle error bears out.

    Without errors, whole numbers get none and others enough for four significant digits of the largest.
    """
    known = sorted(error for error in errors if error is not None and math.isfinite(error) and error > 0)
    if known:
        middle = known[len(known) // 2]
        size = math.floor(math.log10(middle))
        # An error of 1.4 rounded to 1 would be off by a third; from 2 on, one digit tells it well enough.
        return min(max(0, -size + (middle < 2 * 10**size)), 6)
    finite = [abs(value) for value in values if math.isfinite(value)]
    if all(float(value).is_integer() for value in finite):
        return 0
    return min(max(0, 3 - math.floor(math.log10(max(finite)))), 6)


def with_error(value: float, error: float | None, digits: int) -> str:
    """Return a mean with its standard error, if it has one: 0.872 ± 0.004."""
    if not math.isfinite(value):
        return "unknown"
    if error is None or not math.isfinite(error):
        return f"{value:,.{digits}f}"
    least = 10**-digits
    # A small error is not none.
    told = f"under {least:g}" if 0 < error < least / 2 else f"{error:,.{digits}f}"
    # A narrow table breaks the line before the sign, not after it.
    return f"{value:,.{digits}f} ±\u00a0{told}"


def times(ratio: float) -> str:
    """Say how many times as much: 3.3, or 12 from ten on."""
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def score_digits(report: LearningReport) -> int:
    """Return the digits after the point for every score on the page."""
    return decimals([row.score for row in report.rows], [row.score_error for row in report.rows])


def on_task_digits(report: LearningReport) -> int:
    """Return the digits after the point for every count of picks on task."""
    return decimals([row.on_task for row in report.rows], [row.on_task_error for row in report.rows])


def num_seeds(report: LearningReport) -> str:
    """Say how many seeds the variants ran with: 10 seeds, or 3 to 10 seeds."""
    counts = [curve.num_seeds for curve in report.curves]
    least, most = min(counts), max(counts)
    return plural(most, "seed") if least == most else f"{least:,} to {plural(most, 'seed')}"


def seeds(report: LearningReport) -> str:
    """Say what the values are means of, and what one seed cannot tell."""
    if all(curve.num_seeds == 1 for curve in report.curves):
        return "One seed." if len(report.curves) == 1 else "One seed each: differences may be chance."
    return f"Means and standard errors over {num_seeds(report)}."


def num_alike(report: LearningReport) -> int:
    """Count the variants that end within two standard errors of the best, so that being best may be chance."""
    best = report.best_row
    errors = {row.name: row.score_error for row in report.rows if row.score_error is not None}
    mine = errors.get(best.name, math.nan)
    return sum(
        abs(row.score - best.score) <= 2 * math.hypot(mine, errors.get(row.name, math.nan))
        for row in report.rows
        if row.name != best.name
    )


def headline(report: LearningReport) -> str:
    """Return one sentence that says what the run shows."""
    if len(report.rows) == 1:
        return _course(report)
    return _ranking(report) if report.reference_row is None else _saving(report, report.reference_row)


def _course(report: LearningReport) -> str:
    """Say where the only variant began and ended."""
    row = report.rows[0]
    curve, digits = report.curve(row.name), score_digits(report)
    first, last = float(curve.score[0]), float(curve.score[-1])
    bought = plural(report.budget(row.name), "label")
    score = plain(report.score_name)
    if len(curve.score) == 1 or not math.isfinite(first):
        return f"{short(row.name)} ends with {score} {last:.{digits}f} after {bought}."
    better = last > first if report.higher_is_better else last < first
    judgement = "" if better else ", unchanged" if last == first else ", which is worse"
    return f"{short(row.name)} takes {score} from {first:.{digits}f} to {last:.{digits}f} with {bought}{judgement}."


def _ranking(report: LearningReport) -> str:
    best, alike = report.best_row, num_alike(report)
    others = f", though {alike} of the others may be as good" if alike else ""
    return (
        f"{short(best.name)} ends with the best {plain(report.score_name)} of {len(report.rows)} variants: "
        f"{with_error(best.score, best.score_error, score_digits(report))} "
        f"after {plural(report.budget(best.name), 'label')}{others}."
    )


def _saving(report: LearningReport, reference: LearningRow) -> str:
    """Say which variant needs fewest labels for the reference's final score, and how many fewer."""
    budget = report.budget(reference.name)
    goal = f"{short(reference.name)}'s final {plain(report.score_name)} ({reference.score:.{score_digits(report)}f})"
    saver = most_saving(report)
    if saver is None or saver.labels_needed is None:
        others = [row for row in report.rows if row.name != reference.name]
        who = short(others[0].name) if len(others) == 1 else f"None of the {len(others)} other variants"
        return f"{who} {'does not reach' if len(others) == 1 else 'reaches'} {goal} with fewer than {budget:,} labels."
    if saver.labels_needed == 0:
        return f"{short(saver.name)} has {goal} before its first label."
    return (
        f"{short(saver.name)} reaches {goal} with {saver.labels_needed:,} of {plural(budget, 'label')}: "
        f"{times(budget / saver.labels_needed)} times fewer."
    )


def most_saving(report: LearningReport) -> LearningRow | None:
    """Return the variant that reaches the reference's final score with fewest labels, if any saves one."""
    reference = report.reference_row
    if reference is None:
        return None
    budget = report.budget(reference.name)
    saving = [
        row
        for row in report.rows
        if row.name != reference.name and row.labels_needed is not None and row.labels_needed < budget
    ]
    sign = -1 if report.higher_is_better else 1
    return min(saving, key=lambda row: (row.labels_needed, sign * row.score), default=None)


def tiles(report: LearningReport) -> list[Tile]:
    """Return the key figures, most important first; picks are those of the variant that the headline is about."""
    saver = most_saving(report)
    shown = [_score_tile(report)]
    if saver is not None and saver.labels_needed:
        note = f"{short(saver.name)}, to match {short(str(report.reference))}"
        shown.append(Tile("Labels needed", f"{saver.labels_needed:,}", note))
    hero = saver or report.best_row
    budget = report.budget(hero.name)
    if budget:
        share = f"{percent(hero.on_task / budget)} of its picks"
        note = f"{short(hero.name)}: {share}" if len(report.rows) > 1 else share
        shown.append(Tile("Picks on task", with_error(hero.on_task, None, on_task_digits(report)), note))
    num_rounds = sum(int(count) > 0 for count in set(report.curve(hero.name).num_labelled.tolist()))
    shown.append(Tile("Labels", f"{budget:,}", f"in {plural(num_rounds, 'round')}" if num_rounds else ""))
    if report.stage_seconds:
        shown.append(Tile("Time", duration(sum(report.stage_seconds.values())), "all stages together"))
    return shown


def _score_tile(report: LearningReport) -> Tile:
    """Return the best final score, whose it is, and what it is to be held against."""
    best, reference, digits = report.best_row, report.reference_row, score_digits(report)
    alike = num_alike(report)
    note = short(best.name) + (f" ({alike} more within two standard errors)" if alike else "")
    if reference is not None and reference.name != best.name:
        note += f"; {short(reference.name)}: {with_error(reference.score, reference.score_error, digits)}"
    kind = "Best final" if len(report.rows) > 1 else "Final"
    return Tile(f"{kind} {plain(report.score_name)}", with_error(best.score, best.score_error, digits), note)
