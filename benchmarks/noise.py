"""Which noise picks what: picks of the task's class, picks unlike every target, and what a classifier learns of them.

Every line of noise.jsonl is one selection, so that the same command goes on where it was interrupted. A selection of n
rows holds those of fewer: all are judged at several lengths. A classifier is trained on the picks that are of the task,
since their labels are what was asked for; where picks are of other classes, it has fewer.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.noise_data import DATA, ClassTask, draw_task, featured, read_rows, unit
from benchmarks.settings import NoiseSettings
from ray_itl.experiments.cache import Notify
from ray_itl.extras import load_extra
from ray_itl.loaded.pool import LoadedPool, open_pool

BASELINES = ("nearest", "random")
_PENALTY = 10.0  # C of the logistic regression, on rows of norm 1: chosen beforehand, the same for all


@dataclass(frozen=True)
class Trial:
    """One selection."""

    data: str
    seed: int
    features: str
    num_targets: int
    rule: str
    relative_noise: float | None
    """None for a rule that has none."""
    num_rows: int
    """At most, of the data set."""
    lengths: tuple[int, ...]
    """How many of the picks are judged."""


@dataclass(frozen=True)
class NoiseResult:
    """What the picks of a trial are; lists have a number for each of its lengths, but for `ranks`."""

    trial: Trial
    on_task: list[float]
    """Share of the picks that are of the task's classes."""
    ranks: list[float]
    """Of every pick, in order: the share of the pool's rows that are less like their nearest target than it is."""
    opposite: list[float]
    """Share whose cosine to every target is below 0."""
    accuracy: list[float] | None
    """On held-out rows of the task's classes; None for a task of one class."""
    num_rows: int
    """Of the pool."""
    seconds: float

    def unlike(self, length: int, percentile: float = 95.0) -> float:
        """Return the share of the first picks less like their nearest target than a percentile of the pool.

        Picks for which the rows above it have no room are not counted.
        """
        ranks = self.ranks[:length]
        crowded_out = max(0, len(ranks) - round((1 - percentile / 100) * self.num_rows))
        return max(0, sum(rank < percentile / 100 for rank in ranks) - crowded_out) / len(ranks)


def run_noise(settings: NoiseSettings, seed: int, folder: Path, notify: Notify) -> list[NoiseResult]:
    """Select by every rule, noise and kind of features, for every seed from `seed` on, but for what is done already.

    Raises:
        InputError: a data set cannot be had (says what to do).
        MissingExtraError: scikit-learn is not installed.
    """
    load_extra("sklearn", "suite=noise", "demo")
    path, found = folder / "noise.jsonl", []
    done = _read(path)
    for name in settings.data:
        trials = [trial for each in range(seed, seed + settings.seeds) for trial in _trials(name, each, settings)]
        fresh = [trial for trial in trials if trial not in done]
        if len(fresh) < len(trials):
            notify(f"{name}: {len(trials) - len(fresh)} of {len(trials)} selections are in {path} already")
        for result in _selected(name, fresh, settings, notify):
            _append(path, result)
            done[result.trial] = result
            notify(f"{_in_words(result)}, {result.seconds:.3g} s")
        found += [done[trial] for trial in trials]
    return found


def _trials(name: str, seed: int, settings: NoiseSettings) -> Iterator[Trial]:
    """Yield the trials of a task, those of the same rows together."""
    for features in settings.features:
        for count in settings.num_targets:
            for rule in (*settings.rules, *BASELINES):
                for noise in (None,) if rule in BASELINES else settings.relative_noise:
                    yield Trial(name, seed, features, count, rule, noise, settings.num_rows, tuple(settings.lengths))


def _selected(name: str, trials: Sequence[Trial], settings: NoiseSettings, notify: Notify) -> Iterator[NoiseResult]:
    if not trials:
        return
    data = read_rows(name, settings.num_rows, notify)
    for seed in dict.fromkeys(trial.seed for trial in trials):
        task = draw_task(data, DATA[name].num_classes, max(settings.num_targets), seed)
        for features in dict.fromkeys(trial.features for trial in trials if trial.seed == seed):
            own = [trial for trial in trials if (trial.seed, trial.features) == (seed, features)]
            pool, targets = featured(task, features)
            with open_pool(pool, seed=seed) as opened:
                for count in dict.fromkeys(trial.num_targets for trial in own):
                    cosines = _nearest_cosines(pool, targets[:count])
                    for trial in own:
                        if trial.num_targets == count:
                            yield _judged(trial, opened, task, targets[:count], cosines)


def _nearest_cosines(pool: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the cosine of every row to its nearest target, N."""
    return (unit(pool) @ unit(targets).T).max(axis=1)


def _judged(trial: Trial, opened: LoadedPool, task: ClassTask, targets: np.ndarray, cosines: np.ndarray) -> NoiseResult:
    began = time.perf_counter()
    noise = trial.relative_noise or 1.0  # baselines value their picks by it
    picks = np.array(opened.select(targets, max(trial.lengths), acquisition=trial.rule, relative_noise=noise).ids)
    seconds = time.perf_counter() - began
    classes = np.unique(task.targets.labels[: trial.num_targets])
    on_task = np.isin(task.pool.labels[picks], classes)
    ranks = np.searchsorted(np.sort(cosines), cosines[picks]) / len(cosines)
    of_task = [picks[:length][on_task[:length]] for length in trial.lengths]
    return NoiseResult(
        trial,
        [float(on_task[:length].mean()) for length in trial.lengths],
        [float(f"{rank:.4f}") for rank in ranks],
        [float((cosines[picks[:length]] < 0).mean()) for length in trial.lengths],
        None if len(classes) < 2 else [_accuracy(task, rows, classes) for rows in of_task],
        len(cosines),
        seconds,
    )  # fmt: skip


def _accuracy(task: ClassTask, rows: np.ndarray, classes: np.ndarray) -> float:
    """Return the accuracy on held-out rows of a logistic regression trained on some rows of the pool, at norm 1.

    Of rows of one class alone nothing else is learnt; of none, nothing at all: the first class is guessed.
    """
    labels, tested = task.pool.labels[rows], np.isin(task.heldout.labels, classes)
    held, answers = unit(task.heldout.rows[tested]), task.heldout.labels[tested]
    if len(np.unique(labels)) < 2:
        return float((answers == (labels[0] if len(labels) else classes[0])).mean())
    linear = load_extra("sklearn.linear_model", "suite=noise", "demo")
    model = linear.LogisticRegression(C=_PENALTY, max_iter=1000).fit(unit(task.pool.rows[rows]), labels)
    return float(model.score(held, answers))


def _in_words(result: NoiseResult) -> str:
    trial = result.trial
    noise = "" if trial.relative_noise is None else f" {trial.relative_noise:g}"
    accuracy = "" if result.accuracy is None else f", accuracy {result.accuracy[-1]:.3f}"
    return (
        f"{trial.data}, seed {trial.seed}, {trial.features}, {trial.num_targets} targets, {trial.rule}{noise}: "
        f"{result.on_task[-1]:.0%} on task, {result.unlike(trial.lengths[-1]):.0%} unlike{accuracy}"
    )


def _append(path: Path, result: NoiseResult) -> None:
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[Trial, NoiseResult]:
    """Return what is done; a last line that was not finished is cut off, so that the next one begins anew."""
    if not path.exists():
        return {}
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(path, len(whole))
    done = {}
    for line in whole.splitlines():
        value = json.loads(line)
        trial = value.pop("trial")
        trial = Trial(**{**trial, "lengths": tuple(trial["lengths"])})
        done[trial] = NoiseResult(trial, **value)
    return done
