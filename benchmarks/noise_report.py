"""What noises pick: Markdown tables, what a rule without labels would have chosen, and a page of charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.curves_page import CurvesChart, CurvesReport, render_curves
from benchmarks.noise import BASELINES, NoiseResult
from benchmarks.noise_data import DATA
from benchmarks.settings import NoiseSettings

MOST_UNLIKE = 0.05
"""The share of picks that the rule without labels lets be unlike the targets."""
_JUDGED = 100
"""Picks that the rule without labels looks at, and the first of the two lengths that tables show."""


class _Setting(NamedTuple):
    """What a choice of noise is for; None of `rule` stands for all."""

    data: str
    num_targets: int
    features: str
    rule: str


@dataclass(frozen=True)
class AutoChoice:
    """What the rule without labels chose for the tasks of one setting, beside the best of all fixed noises."""

    setting: _Setting
    chosen: list[float]
    """By seed."""
    best: float
    """Of the fixed noises the one of the best mean accuracy."""
    difference: tuple[float, float]
    """Accuracy at the chosen noise less that at the best one, the mean over seeds and its standard error."""
    beside_one: tuple[float, float]
    """Accuracy at the chosen noise less that at relative noise 1, likewise."""


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return a mean and its standard error; nan of one value alone."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return float(np.mean(values)), float(error)


def auto_choices(results: Sequence[NoiseResult], length: int) -> list[AutoChoice]:
    """Return what the rule would have chosen: the smallest noise with few unlike picks, else the largest.

    Args:
        results: Of all trials.
        length: The number of labels after which accuracies are compared.
    """
    found = []
    for setting, own in _settings(results).items():
        if own[0].accuracy is None:
            continue
        by_seed: dict[int, dict[float, NoiseResult]] = {}
        for each in own:
            assert each.trial.relative_noise is not None
            by_seed.setdefault(each.trial.seed, {})[each.trial.relative_noise] = each
        chosen = [_chosen(noises) for noises in by_seed.values()]
        accuracy = [{noise: _accuracy(each, length) for noise, each in n.items()} for n in by_seed.values()]
        best = max(sorted(accuracy[0]), key=lambda noise: np.mean([each[noise] for each in accuracy]))
        pairs = list(zip(accuracy, chosen, strict=True))
        beside = [
            mean_and_error([each[noise] - each.get(other, np.nan) for each, noise in pairs]) for other in (best, 1)
        ]
        found.append(AutoChoice(setting, chosen, best, *beside))
    return found


def _settings(results: Sequence[NoiseResult]) -> dict[_Setting, list[NoiseResult]]:
    """Return the results of rules that have a noise, by setting."""
    found: dict[_Setting, list[NoiseResult]] = {}
    for each in results:
        trial = each.trial
        if trial.relative_noise is not None:
            setting = _Setting(trial.data, trial.num_targets, trial.features, trial.rule)
            found.setdefault(setting, []).append(each)
    return found


def _chosen(noises: dict[float, NoiseResult]) -> float:
    few = [noise for noise, each in noises.items() if each.unlike(_JUDGED) <= MOST_UNLIKE]
    return min(few, default=max(noises))


def _at(result: NoiseResult, values: list[float] | None, length: int) -> float:
    """Return what is known after so many picks, or the next fewer that were judged."""
    lengths = result.trial.lengths
    assert values is not None
    return values[max(place for place, each in enumerate(lengths) if each <= max(length, min(lengths)))]


Measure = Callable[[NoiseResult, int], float]
"""Of a result and the number of its picks."""


def _on_task(result: NoiseResult, length: int) -> float:
    return _at(result, result.on_task, length)


def _unlike(result: NoiseResult, length: int) -> float:
    return result.unlike(length)


def _opposite(result: NoiseResult, length: int) -> float:
    return _at(result, result.opposite, length)


def _accuracy(result: NoiseResult, length: int) -> float:
    return _at(result, result.accuracy, length)


def noise_tables(results: Sequence[NoiseResult], settings: NoiseSettings) -> str:
    """Return the figures of all data sets, and what the rule without labels would have chosen."""
    intro = (
        f"Noise: picks of {', '.join(DATA[name].words for name in settings.data)}; at most {settings.num_rows:,} rows; "
        f"tasks of a few classes drawn by seed ({settings.seeds} a data set), as many targets of each class. Unlike: "
        "less like its nearest target than the 95th percentile of the pool, but for picks for which the rest has no "
        "room. Opposite: a cosine below 0 to every target. Accuracy: of a logistic regression on those of the first "
        "picks that are of the task's classes, on held-out rows of these classes. Means over the seeds; differences "
        "are of the same tasks, with standard errors."
    )
    parts = [intro]
    for name in settings.data:
        for count in settings.num_targets:
            own = [r for r in results if (r.trial.data, r.trial.num_targets) == (name, count)]
            parts.append(
                f"### {DATA[name].words}, {count} target{'s' * (count != 1)}\n\n{_table(own, _lengths(settings))}"
            )
    if any(result.accuracy is not None for result in results):
        parts.append(_auto_table(results, settings))
    return "\n\n".join(parts)


def _table(results: Sequence[NoiseResult], lengths: Sequence[int]) -> str:
    first, has_accuracy = lengths[0], results[0].accuracy is not None
    names = ["features", "rule", "noise", *(f"on task, {length}" for length in lengths)]
    names += [f"unlike, {first}", f"opposite, {first}"]
    if has_accuracy:
        names += [name for length in lengths for name in (f"accuracy, {length}", "beside nearest")]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    groups: dict[tuple[str, str, float | None], list[NoiseResult]] = {}
    for each in results:
        groups.setdefault((each.trial.features, each.trial.rule, each.trial.relative_noise), []).append(each)
    for (features, rule, noise), own in groups.items():
        shares = [*(_mean(own, _on_task, length) for length in lengths), _mean(own, _unlike, first)]
        cells = [f"{share:.0%}" for share in (*shares, _mean(own, _opposite, first))]
        for length in lengths if has_accuracy else ():
            cells += _accuracy_cells(own, groups[features, "nearest", None], length)
        lines.append(f"| {features} | {rule} | {'-' if noise is None else f'{noise:g}'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(results: Sequence[NoiseResult], measure: Measure, length: int) -> float:
    return float(np.mean([measure(each, length) for each in results]))


def _accuracy_cells(own: Sequence[NoiseResult], nearest: Sequence[NoiseResult], length: int) -> list[str]:
    """Return the mean accuracy, and that less the nearest rows' on the same tasks."""
    beside = [_accuracy(one, length) - _accuracy(other, length) for one, other in zip(own, nearest, strict=True)]
    return [f"{_mean(own, _accuracy, length):.3f}", "-" if own == nearest else in_words(mean_and_error(beside))]


def in_words(difference: tuple[float, float]) -> str:
    """Return a difference and its standard error, where there are such."""
    mean, error = difference
    if np.isnan(mean):
        return "-"
    return f"{mean:+.3f}" if np.isnan(error) else f"{mean:+.3f} ± {error:.3f}"


def _auto_table(results: Sequence[NoiseResult], settings: NoiseSettings) -> str:
    lines = [
        f"A rule without labels, the smallest noise at which at most {MOST_UNLIKE:.0%} of the first {_JUDGED} picks "
        "are unlike the targets, would have chosen:",
        "",
        "| data | targets | features | rule | labels | chosen, by seed | best | beside the best | beside noise 1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for length in _lengths(settings):
        for choice in auto_choices(results, length):
            data, count, features, rule = choice.setting
            chosen = ", ".join(f"{noise:g}" for noise in choice.chosen)
            beside = " | ".join(map(in_words, (choice.difference, choice.beside_one)))
            cells = f"{data} | {count} | {features} | {rule} | {length} | {chosen} | {choice.best:g}"
            lines.append(f"| {cells} | {beside} |")
    return "\n".join(lines)


def _lengths(settings: NoiseSettings) -> list[int]:
    """Return the numbers of picks that are shown: about as many as the rule looks at, and the most."""
    first = max([each for each in settings.lengths if each <= _JUDGED], default=min(settings.lengths))
    return list(dict.fromkeys((first, max(settings.lengths))))


def render_noise(results: Sequence[NoiseResult], settings: NoiseSettings, machine: str) -> str:
    """Return a page with curves over the noise: picks of the task, unlike picks, accuracy.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    lengths = _lengths(settings)
    charts = []
    for name in settings.data:
        for count in settings.num_targets:
            own = [r for r in results if (r.trial.data, r.trial.num_targets) == (name, count)]
            where = f"{DATA[name].words}, {count} target{'s' * (count != 1)}"
            for what, measure, length in (
                ("share of picks on task", _on_task, lengths[0]),
                ("share of picks unlike the targets", _unlike, lengths[0]),
                *(("accuracy", _accuracy, length) for length in lengths),
            ):
                if measure is not _accuracy or own[0].accuracy is not None:
                    heading = f"{where}: {what}, {length} picks"
                    caption = "Flat lines have no noise: the nearest rows, and random ones."
                    curves = _curves(own, measure, length, settings.relative_noise)
                    charts.append(CurvesChart(heading, caption, "relative noise", "", curves, linear_y=True))
    headline = f"What is picked, and learnt, by relative noise: means over {settings.seeds} tasks of each data set."
    return render_curves(CurvesReport("Noise", headline, charts, facts={"Machine": machine}))


def _curves(
    results: Sequence[NoiseResult],
    measure: Measure,
    length: int,
    noises: Sequence[float],
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for features, rule in dict.fromkeys((each.trial.features, each.trial.rule) for each in results):
        own = [each for each in results if (each.trial.features, each.trial.rule) == (features, rule)]
        name = f"{rule}, {features}"
        if rule in BASELINES:
            curves[name] = (noises, [_mean(own, measure, length)] * len(noises))
        else:
            means = [_mean([r for r in own if r.trial.relative_noise == noise], measure, length) for noise in noises]
            curves[name] = (noises, means)
    return curves
