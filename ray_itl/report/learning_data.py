"""Everything the report of an active fine-tuning shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ray_itl.errors import InputError


class Trail(NamedTuple):
    """A quantity followed over rounds or over labels: (s,) places, and its (s,) values there."""

    places: np.ndarray
    values: np.ndarray


class Goal(NamedTuple):
    """A score to be reached."""

    share: float
    """Of the best score of any variant; where lower is better, of the best improvement over no training."""
    score: float


class Needed(NamedTuple):
    """Labels until a variant's mean score had reached a goal, with an interval of 95%; inf: never, nan: not known."""

    labels: float
    low: float
    high: float


class Saving(NamedTuple):
    """How many times as many labels the reference needs for a goal, with an interval of 95%.

    inf: it never gets there, or the variant was there before its first label; 0: the variant never gets there; nan:
    neither does, or it is not known.
    """

    times: float
    low: float
    high: float
    labels: float
    """That the variant needs, by the seeds that both have; inf: it never gets there."""


class Beside(NamedTuple):
    """A variant beside a reference: differences of the seeds that both have, variant less reference."""

    reference: str
    score: float
    """Mean difference of the scores at the end of the budget that all variants have."""
    score_error: float
    """Standard error of it, as of all errors here: over seeds, by pairs; nan with one seed."""
    area: float
    """Mean difference of the areas under the curves."""
    area_error: float
    num_seeds: int
    savings: Sequence[Saving]
    """One a goal."""


class LearningRow(NamedTuple):
    """How one variant ended."""

    name: str
    """The variant, as its curve is called."""
    score: float
    """Mean score after its last round."""
    score_error: float | None
    """Standard error of that mean; None or nan with one seed."""
    on_task: float
    """Mean number of its picks that were of the task."""
    on_task_error: float | None
    """Standard error of that mean; None or nan with one seed."""
    labels_needed: int | None = None
    """Fewest labels at which its mean score is as good as the reference's at its end; None: never."""
    ratio: float | None = None
    """The reference's budget over `labels_needed`; None: never."""
    area: float = float("nan")
    """Area under its curve over the budget that all variants have: its mean score on the way."""
    area_error: float = float("nan")
    """Standard error of it."""
    needed: Sequence[Needed] = ()
    """One a goal."""
    beside: Sequence[Beside] = ()
    """One a reference, the main one first; a reference has those before it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """How well a model told C classes apart on held-out rows.

    Raises:
        InputError: numbers of classes that disagree.
    """

    names: Sequence[str]
    """C classes as people call them, in the order of the model's outputs."""
    num_trained: np.ndarray
    """(C,) labels of each that the model was trained on."""
    confusion: np.ndarray
    """C x C: how many held-out rows of the class of the row were taken for that of the column."""
    whose: str
    """The model, as in a sentence: "itl after round 6"."""

    def __post_init__(self) -> None:
        C = len(self.names)
        if self.confusion.shape != (C, C) or self.num_trained.shape != (C,):
            raise InputError(f"{C} classes need a confusion of {C} x {C} and {C} numbers of labels.")


class PickedRow(NamedTuple):
    """A row that a round picked."""

    seen: str
    """Its text, or a data URI of its picture."""
    label: str
    """What it was labelled; "" where it was not."""
    on_task: bool


class PickedRound(NamedTuple):
    """What one round picked."""

    number: int
    num_rows: int
    """In all."""
    on_task: int
    """Of the task."""
    rows: list[PickedRow]
    """The first of them."""
    are_pictures: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningCurve:
    """One variant (a rule, or a setting) over r >= 1 points, round 0 included where it was scored.

    Errors are standard errors of the mean over seeds; None, or nan at a point, where there is none.

    Raises:
        InputError: no points, lengths that disagree, or labels that do not ascend.
    """

    name: str
    """The variant."""
    num_labelled: np.ndarray
    """(r,) labels bought so far, ascending."""
    score: np.ndarray
    """(r,) mean score."""
    on_task: np.ndarray
    """(r,) mean number of picks so far that were of the task."""
    score_error: np.ndarray | None = None
    """(r,) error of the score."""
    on_task_error: np.ndarray | None = None
    """(r,) error of that number."""
    num_seeds: int = 1
    """Runs that the means are over."""

    def __post_init__(self) -> None:
        r = len(self.num_labelled)
        if r < 1:
            raise InputError(f"The curve of {self.name!r} has no points.")
        for name in ("score", "on_task", "score_error", "on_task_error"):
            values = getattr(self, name)
            if values is not None and len(values) != r:
                raise InputError(f"{name} of {self.name!r} has {len(values)} values, but there are {r} points.")
        if (np.diff(self.num_labelled) < 0).any():
            raise InputError(f"num_labelled of {self.name!r} must ascend.")


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningReport:
    """What rounds of selecting, labelling, training and scoring did, for one variant or several.

    Text may come from anywhere: the page escapes all of it.

    Raises:
        InputError: no curves or rows, a name used twice, a name that no curve has, or a trail of unequal lengths.
    """

    title: str
    """Heading of the page."""
    score_name: str
    """What is scored, as in a sentence: "accuracy", "bits per byte"."""
    higher_is_better: bool
    """Whether a larger score is the better one."""
    curves: Sequence[LearningCurve]
    """The variants, in the order to be shown; at least one, with distinct names."""
    rows: Sequence[LearningRow]
    """How the variants ended, in the order to be shown; at least one."""
    reference: str | None = None
    """The variant that the others are measured against, if any."""
    goals: Sequence[Goal] = ()
    """Scores to be reached; rows that have labels needed have them for each."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Facts of the run, label to value."""
    warnings: Sequence[str] = ()
    """Sentences the reader must see first."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each stage, in the order to be shown."""
    drift: Mapping[str, Trail] = field(default_factory=dict)
    """By variant, mean cosine between the embeddings of the same rows before and after a round, over rounds."""
    variance: Mapping[str, Trail] = field(default_factory=dict)
    """By variant, share of the targets' prior variance left, over labels."""
    classes: ClassScores | None = None
    """Class by class, of one variant; None where there are none."""
    picked: Sequence[PickedRound] = ()
    """Rounds to show, in order, of the only variant."""

    def __post_init__(self) -> None:
        names = [curve.name for curve in self.curves]
        if not names or not self.rows:
            raise InputError("A learning report needs at least one curve and one row.")
        if len(set(names)) < len(names):
            raise InputError(f"Every curve needs a name of its own, but they are called {', '.join(names)}.")
        used = {"rows": [row.name for row in self.rows], "drift": list(self.drift), "variance": list(self.variance)}
        used["reference"] = [] if self.reference is None else [self.reference]
        for place, wanted in used.items():
            for name in wanted:
                if name not in names:
                    raise InputError(f"{place} names {name!r}, but there is no curve of that name.")
        for row in self.rows:
            if any(len(of_goals) != len(self.goals) for of_goals in (row.needed, *(b.savings for b in row.beside))):
                raise InputError(f"{row.name!r} needs figures for each of {len(self.goals)} goals.")
        for place, trails in (("drift", self.drift), ("variance", self.variance)):
            for name, trail in trails.items():
                if not len(trail.values) == len(trail.places) > 0:
                    counts = f"{len(trail.values)} values at {len(trail.places)} places"
                    raise InputError(f"{place} of {name!r} has {counts}; it needs as many, and at least one.")

    @property
    def reference_row(self) -> LearningRow | None:
        """How the reference ended; None where nothing is measured against it."""
        row = next((row for row in self.rows if row.name == self.reference), None)
        return row if len(self.rows) > 1 else None

    @property
    def best_row(self) -> LearningRow:
        """The row with the best score; of equals, the first."""
        sign = 1 if self.higher_is_better else -1
        return max(self.rows, key=lambda row: sign * row.score)

    def curve(self, name: str) -> LearningCurve:
        """Return the curve of that name; there must be one."""
        return next(curve for curve in self.curves if curve.name == name)

    def budget(self, name: str) -> int:
        """Return the labels that the curve of that name ends with."""
        return int(self.curve(name).num_labelled[-1])
