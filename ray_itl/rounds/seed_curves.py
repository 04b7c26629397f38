"""Learning curves seed by seed, from a sweep's table, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pyarrow as pa

from ray_itl.report.learning_data import LearningCurve
from ray_itl.text import plural


@dataclass(frozen=True, eq=False)
class SeedCurves:
    """The curves of one variant: s seeds, ascending, by r points. Seeds with fewer rounds than others are left out."""

    name: str
    seeds: np.ndarray
    """(s,) of them."""
    num_labelled: np.ndarray
    """(r,) labels bought so far, ascending; points at which some seed has no score are left out."""
    scores: np.ndarray
    """s x r float64."""
    on_task: np.ndarray
    """s x r float64, picks so far that were of the task."""

    @property
    def mean(self) -> np.ndarray:
        """(r,) mean score over the seeds."""
        return self.scores.mean(axis=0)

    def of(self, seeds: np.ndarray) -> np.ndarray:
        """Return the scores of some of the seeds, in their order."""
        return self.scores[np.searchsorted(self.seeds, seeds)]

    def at(self, labels: float) -> np.ndarray:
        """Return the score of every seed after so many labels, on the line between the points around it: (s,)."""
        return np.array([np.interp(labels, self.num_labelled, scores) for scores in self.scores])


def seed_curves(table: pa.Table, score: str) -> list[SeedCurves]:
    """Return the curves of every variant, in order of appearance.

    Args:
        table: As `run_sweep` returns it.
        score: Column of the scores, such as "heldout.accuracy".
    """
    columns = {
        name: table.column(name).to_numpy().astype(np.float64)
        for name in ("seed", "round", "num_labelled", "num_on_task", score)
    }
    variants = np.array(table.column("variant").to_pylist(), dtype=object)
    return [_of_variant(name, variants == name, columns, score) for name in dict.fromkeys(variants.tolist())]


def _of_variant(name: str, rows: np.ndarray, columns: Mapping[str, np.ndarray], score: str) -> SeedCurves:
    own = {column: values[rows] for column, values in columns.items()}
    by_seed = {seed: np.flatnonzero(own["seed"] == seed) for seed in np.unique(own["seed"])}
    most = max(map(len, by_seed.values()))
    places = {seed: found[own["round"][found].argsort()] for seed, found in by_seed.items() if len(found) == most}
    grid = np.stack(list(places.values()))  # s x r: where in `own`
    scores = own[score][grid]
    known = np.isfinite(scores).all(axis=0)
    known = known if known.any() else np.ones_like(known)
    return SeedCurves(
        name,
        np.array(list(places), dtype=np.int64),
        own["num_labelled"][grid[0]][known],
        scores[:, known],
        own["num_on_task"][grid][:, known],
    )


def level(curves: Sequence[SeedCurves]) -> list[SeedCurves]:
    """Return curves moved up or down, all those of a seed alike, so that every seed begins at the mean start.

    Seeds may be tasks of their own, such as topics, whose scores differ by more than any training changes. What is left
    is what training changed: goals that are a share of an improvement mean the same for every draw of seeds, and
    variants that have other seeds may be compared. A seed's start is the mean over variants of its first score.
    """
    first: dict[int, list[float]] = {}
    for curve in curves:
        for seed, scores in zip(curve.seeds.tolist(), curve.scores, strict=True):
            first.setdefault(seed, []).append(scores[0])
    start = {seed: float(np.mean(found)) for seed, found in first.items()}
    middle = float(np.mean([*start.values()]))
    moves = {seed: middle - own for seed, own in start.items()}
    return [
        replace(curve, scores=curve.scores + np.array([[moves[seed]] for seed in curve.seeds.tolist()]))
        for curve in curves
    ]


def mean_curves(curves: Sequence[SeedCurves]) -> list[LearningCurve]:
    """Return means over seeds with their standard errors, which are nan with one seed."""
    return [
        LearningCurve(
            name=curve.name,
            num_labelled=curve.num_labelled.astype(np.int64),
            score=curve.mean,
            on_task=curve.on_task.mean(axis=0),
            score_error=standard_error(curve.scores),
            on_task_error=standard_error(curve.on_task),
            num_seeds=len(curve.seeds),
        )
        for curve in curves
    ]


def standard_error(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over the first axis; nan where that has one value."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / len(values) ** 0.5


def gaps(curves: Sequence[SeedCurves], asked: Mapping[str, Iterable[int]] | None = None) -> list[str]:
    """Return a sentence for every variant that lacks seeds of those asked for (None: of those that any variant has)."""
    found = {curve.name: curve.seeds.tolist() for curve in curves}
    everywhere = sorted(set().union(*found.values()))
    wanted = dict.fromkeys(found, everywhere) if asked is None else {name: sorted(asked[name]) for name in asked}
    missing = {name: [seed for seed in seeds if seed not in found.get(name, [])] for name, seeds in wanted.items()}
    return [
        f"{name} lacks {_told(seeds)}, not finished: its figures are of {plural(len(found.get(name, [])), 'seed')}"
        for name, seeds in missing.items()
        if seeds
    ]


def _told(seeds: Sequence[int]) -> str:
    """Return seeds in words: seed 3; seeds 0, 4 to 9."""
    runs = [[seed for _, seed in run] for _, run in groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])]
    words = ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
    return f"seed {words}" if len(seeds) == 1 else f"seeds {words}"
