"""Paired comparisons of rules over the same tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ray_itl.rounds.seed_curves import standard_error

_RESAMPLES = 2000
_LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences."""

    mean: float
    error: float
    """Standard error of the mean: standard deviation over the square root of the number; nan of a single one."""
    num_tests: int

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ± {self.error:.4f}"


def paired(values: ArrayLike, reference: ArrayLike) -> Difference:
    """Return the mean of values - reference, of the same tests in the same order."""
    each = np.asarray(values, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return Difference(float(each.mean()), float(standard_error(each)), len(each))


@dataclass(frozen=True)
class Saving:
    """How many times fewer examples a rule needs than another; below 1: how many times more."""

    times: float
    low: float
    high: float
    """Ends of the 95% interval, from tests drawn again with replacement."""

    def __str__(self) -> str:
        return f"{self.times:.2f} ({self.low:.2f} to {self.high:.2f})"


def saving(curves: np.ndarray, reference: np.ndarray, places: Sequence[int], seed: int) -> Saving:
    """Return how many times fewer examples a rule needs to be as good as the reference is with all of them.

    If the rule never gets there, it is the other way round: the examples with which the reference is as good as the
    rule is with all of its own, over all. Between places mean curves are straight lines.

    Args:
        curves: T x P scores, the lower the better, of T tests after P numbers of examples.
        reference: The same of the other rule.
        places: P numbers of examples, ascending, the first 0.
        seed: Of the resampling.
    """
    draw, count = np.random.default_rng(seed), len(curves)
    samples = [_times(curves[drawn].mean(axis=0), reference[drawn].mean(axis=0), places) for drawn in (
        draw.integers(0, count, count) for _ in range(_RESAMPLES)
    )]  # fmt: skip
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], method="inverted_cdf")  # some may be infinite
    return Saving(_times(curves.mean(axis=0), reference.mean(axis=0), places), float(low), float(high))


def _times(curve: np.ndarray, reference: np.ndarray, places: Sequence[int]) -> float:
    last = places[-1]
    needed = first_reached(curve, float(reference[-1]), places)
    if needed is not None:
        return last / needed if needed else float("inf")
    enough = first_reached(reference, float(curve[-1]), places)
    return (last if enough is None else enough) / last


def first_reached(curve: np.ndarray, value: float, places: Sequence[int]) -> float | None:
    """Return where a curve of straight lines first is at most a value; None if nowhere."""
    for k, score in enumerate(curve):
        if score <= value:
            if not k:
                return float(places[0])
            share = (curve[k - 1] - value) / (curve[k - 1] - score)
            return float(places[k - 1] + share * (places[k] - places[k - 1]))
    return None


def mean_curves(curves: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Return each rule's mean over tests, of T x P scores."""
    return {rule: each.mean(axis=0).tolist() for rule, each in curves.items()}
