"""What a sweep's curves say of its variants: how they end, labels needed, areas, and differences seed by seed.

Seeds are the sample: two variants with the same seed have the same task, so they are compared by pairs. Intervals are
of 95%, percentiles of a bootstrap that draws seeds with replacement (the same draws for both of a pair). Where goals
are shares of an improvement, seeds are counted from a common start (`level`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ray_itl.report.learning_data import Beside, Goal, LearningCurve, LearningRow, Needed, Saving
from ray_itl.rounds.seed_curves import SeedCurves, level, mean_curves, standard_error

GOALS = (0.8, 0.9, 0.95)
"""Shares of the best score."""
_DRAWS = 2000
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The variants of a sweep side by side."""

    curves: Sequence[LearningCurve]
    """Means over seeds."""
    rows: Sequence[LearningRow]
    goals: Sequence[Goal]
    references: Sequence[str]
    """The variants that others are held against, the main one first; those that there are."""
    budget: int
    """Labels up to which all variants have scores: areas and differences are of them."""


def compare(curves: Sequence[SeedCurves], higher_is_better: bool, references: Sequence[str]) -> Comparison:
    """Compare variants with each other, and with those of some names, where there are any."""
    means = mean_curves(curves)
    sign = 1 if higher_is_better else -1
    is_share = sign > 0 and min(float(np.nanmin(mean.score)) for mean in means) >= 0
    by_name = {curve.name: curve for curve in (curves if is_share else level(curves))}
    goals = goals_of([curve.mean for curve in by_name.values()], sign, is_share)
    references = [name for name in dict.fromkeys(references) if name in by_name]
    end = min(float(curve.num_labelled[-1]) for curve in curves)
    start = min(max(float(curve.num_labelled[0]) for curve in curves), end)
    areas = {curve.name: area(curve, start, end) for curve in curves}
    at_end = {curve.name: curve.at(end) for curve in curves}
    against = by_name[references[0]] if references else None
    rows = []
    for mean, curve in zip(means, by_name.values(), strict=True):
        beside = [
            Beside(
                name,
                *_paired(curve, by_name[name], at_end),
                *_paired(curve, by_name[name], areas),
                len(np.intersect1d(curve.seeds, by_name[name].seeds)),
                [_saving(curve, by_name[name], goal.score, sign) for goal in goals],
            )
            for name in _references_of(curve.name, references)
        ]
        rows.append(
            _row(mean, curve, against, sign)._replace(
                area=float(areas[curve.name].mean()),
                area_error=float(standard_error(areas[curve.name])),
                needed=[_needed(curve, goal.score, sign) for goal in goals],
                beside=beside,
            )
        )
    return Comparison(curves=means, rows=rows, goals=goals, references=references, budget=int(end))


def goals_of(means: Sequence[np.ndarray], sign: int, is_share: bool) -> list[Goal]:
    """Return the scores that are 80, 90 and 95% of the best mean score of any variant at any time.

    Where lower is better (sign -1), or scores may be negative (not is_share), it is that share of the way from the
    score before training, averaged over variants, to the best: s0 + share (best - s0).
    """
    best = float(np.nanmax(sign * np.concatenate(means)) * sign)
    before = 0.0 if is_share else float(np.mean([mean[0] for mean in means]))
    return [Goal(share, before + share * (best - before)) for share in GOALS]


def labels_needed(num_labelled: np.ndarray, score: np.ndarray, goal: float, sign: int) -> float:
    """Return the fewest labels at which a curve has reached a score; inf: never."""
    reached = np.flatnonzero(sign * score >= sign * goal)
    return float(num_labelled[reached[0]]) if len(reached) else np.inf


def area(curve: SeedCurves, start: float, end: float) -> np.ndarray:
    """Return the area under the curve of each seed from `start` to `end` labels, over end - start: (s,), in scores.

    Curves are straight between their points, so that this is a mean score over the budget.
    """
    if end <= start:
        return curve.at(end)
    inside = curve.num_labelled[(curve.num_labelled > start) & (curve.num_labelled < end)]
    places = np.concatenate([[start], inside, [end]])
    heights = np.stack([curve.at(place) for place in places], axis=1)
    return (np.diff(places) * (heights[:, 1:] + heights[:, :-1]) / 2).sum(axis=1) / (end - start)


def _references_of(name: str, references: Sequence[str]) -> Sequence[str]:
    """Return the references that a variant is held against: of two references the later against the earlier."""
    return references[: references.index(name)] if name in references else references


def _row(mean: LearningCurve, curve: SeedCurves, against: SeedCurves | None, sign: int) -> LearningRow:
    """Return how a variant ended, and when it had reached the end of the main reference."""
    needed = np.inf
    if against is not None:
        needed = labels_needed(curve.num_labelled, curve.mean, against.mean[-1], sign)
    labels = int(needed) if np.isfinite(needed) else None
    ratio = float(against.num_labelled[-1] / labels) if against is not None and labels else None
    errors = [None if error is None else float(error[-1]) for error in (mean.score_error, mean.on_task_error)]
    return LearningRow(mean.name, float(mean.score[-1]), errors[0], float(mean.on_task[-1]), errors[1], labels, ratio)


def _paired(own: SeedCurves, other: SeedCurves, values: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return mean and standard error of the differences to another variant, seed by seed; nan without common seeds."""
    _, mine, theirs = np.intersect1d(own.seeds, other.seeds, return_indices=True)
    if not len(mine):
        return float("nan"), float("nan")
    differences = values[own.name][mine] - values[other.name][theirs]
    return float(differences.mean()), float(standard_error(differences))


def _needed(curve: SeedCurves, goal: float, sign: int) -> Needed:
    labels = labels_needed(curve.num_labelled, curve.mean, goal, sign)
    drawn = _labels_in_draws(curve, curve.seeds, goal, sign)
    return Needed(labels, *_interval(drawn, len(curve.seeds)))


def _saving(own: SeedCurves, other: SeedCurves, goal: float, sign: int) -> Saving:
    """Return how many times as many labels another variant needs, by the seeds that both have.

    Where one of the two does not get there within its budget, the ratio is only known to be above or below what the
    budget gives, and where neither does, nothing is: the interval has room for all that may be.
    """
    seeds = np.intersect1d(own.seeds, other.seeds)
    if not len(seeds):
        return Saving(*[float("nan")] * 4)
    mine, theirs = (
        labels_needed(curve.num_labelled, curve.of(seeds).mean(axis=0), goal, sign) for curve in (own, other)
    )
    times = float(_times(np.array([theirs]), np.array([mine]))[0])
    their_draws, my_draws = (_labels_in_draws(curve, seeds, goal, sign) for curve in (other, own))
    at_least = _times(np.minimum(their_draws, other.num_labelled[-1]), my_draws)
    at_most = _times(their_draws, np.minimum(my_draws, own.num_labelled[-1]))
    low, high = _interval(at_least, len(seeds))[0], _interval(at_most, len(seeds))[1]
    # Means of draws may get there sooner than the mean, but no more than what the budget gives is shown.
    low = min(low, other.num_labelled[-1] / mine) if np.isinf(times) and mine else low
    return Saving(times, float(low), high, mine)


def _times(theirs: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Return theirs / mine, where inf stands for never: nan where neither gets there, 1 where both had it at once."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((theirs == 0) & (mine == 0), 1.0, np.where(np.isinf(mine), 0.0 * theirs, theirs / mine))


def _labels_in_draws(curve: SeedCurves, seeds: np.ndarray, goal: float, sign: int) -> np.ndarray:
    """Return the labels needed by the mean over each draw of seeds; the draws follow from the number of seeds alone."""
    reached = sign * (_draws(len(seeds)) @ curve.of(seeds)) / len(seeds) >= sign * goal
    return np.where(reached.any(axis=1), curve.num_labelled[reached.argmax(axis=1)], np.inf)


@cache
def _draws(count: int) -> np.ndarray:
    """Return how often each of so many seeds is in each draw of as many: draws x count."""
    drawn = np.random.default_rng(0).integers(count, size=(_DRAWS, count))
    return np.stack([np.bincount(draw, minlength=count) for draw in drawn])


def _interval(drawn: np.ndarray, num_seeds: int) -> tuple[float, float]:
    """Return the percentiles of 2.5 and 97.5%; nan with one seed. They may be inf, so no two values are mixed."""
    if num_seeds < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [_TAIL, 1 - _TAIL], method="inverted_cdf")
    return float(low), float(high)
