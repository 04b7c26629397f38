"""Everything that a selection's report shows, as plain values; some of it is there only where the run has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from ray_itl.errors import InputError
from ray_itl.text import plain

GainUnit = Literal["nats", "variance"]


class Use(NamedTuple):
    """How much of a limit was used."""

    name: str
    """What is limited, such as "budget" or "language=en"."""
    used: float
    """How much the picks use."""
    least: float | None = None
    """What they must reach, if anything."""
    most: float | None = None
    """What they may use, if that is bounded."""
    unit: str = ""
    """Of all of them, such as "tokens"; may be empty."""

    @property
    def is_unmet(self) -> bool:
        """Whether the minimum was missed."""
        return self.least is not None and self.used < self.least

    @property
    def fullness(self) -> float:
        """What share of the minimum was reached where it was missed, else of the maximum was used (0 without one)."""
        bound = self.least if self.is_unmet else self.most
        if bound is None:
            return 0.0
        return self.used / bound if bound > 0 else 1.0


class Mix(NamedTuple):
    """What share of the picks, and of the pool, has each value of a column."""

    column: str
    """Name of the column."""
    values: Sequence[str]
    """Values in the order to be shown."""
    in_picks: Sequence[float]
    """Share of the picks with each value, in [0, 1]."""
    in_pool: Sequence[float]
    """Share of the pool, or of a sample of it."""
    sampled: int
    """Rows that the pool's shares come from."""


@dataclass(frozen=True, eq=False)
class TargetsLeft:
    """How much of each target's uncertainty is left.

    Raises:
        InputError: lengths disagree, or there are no targets.
    """

    ids: Sequence[object]
    """(m,) id, or row number, of each target."""
    left: np.ndarray
    """(m,) share of the target's variance before the first pick that is left after the last, in [0, 1]."""
    shown: Mapping[int, object] = field(default_factory=dict)
    """What there is to see of some targets, by their places: texts, or encoded images."""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.left) or len(self.left) == 0:
            raise InputError(f"there are {len(self.ids)} ids and {len(self.left)} shares of targets: give one of each")

    def worst(self, most: int) -> list[int]:
        """Return the places of the targets of which most is left, the worst first; equals in the order given."""
        return np.argsort(-np.asarray(self.left), kind="stable")[:most].tolist()

    def name(self, place: int) -> str:
        """Return a target's text where that is shown, else its id."""
        shown = self.shown.get(place)
        return shown if isinstance(shown, str) else plain(self.ids[place])


class PickReason(NamedTuple):
    """Why one row was picked."""

    nearest_targets: Sequence[tuple[object, float]]
    """The targets most like it, with their cosines, nearest first."""
    informed_targets: Sequence[tuple[object, float]]
    """The targets it says most about, with their shares of its gain, the largest first."""
    nearest_earlier: tuple[object, float] | None
    """The earlier pick most like it, with its cosine; None for the first pick."""
    runner_up: tuple[object, float] | None
    """The row that would have been picked otherwise, and by how much the pick gained more; None if none."""


class ComparisonRow(NamedTuple):
    """One way of picking: what its picks say about the targets, and how many were of the wanted kind."""

    name: str
    """The way of picking, such as "ITL", "random" or "nearest"."""
    remaining_uncertainty: float
    """Share of the targets' prior variance left after its picks."""
    wanted: int
    """How many of its picks were of that kind."""
    share: float
    """The same as a share of its picks, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportData:
    """What one selection of n picks did; n is at least 1.

    Text may come from anywhere: the page escapes all of it.

    Raises:
        InputError: lengths disagree, there are no picks, or the gain unit is unknown.
    """

    title: str
    """Heading of the page."""
    acquisition: str
    """Name of the rule that picked, such as "ITL"."""
    num_pool: int
    """Rows in the pool."""
    num_targets: int
    """Target rows."""
    num_asked: int
    """Picks that were asked for; n may be smaller."""
    seconds: float
    """Wall-clock time of the run."""
    gains: np.ndarray
    """(n,) gain of each pick given the picks before it, in `gain_unit`."""
    gain_unit: GainUnit
    """"nats" of information, or "variance" taken from the targets."""
    remaining_uncertainty: np.ndarray
    """(n + 1,) share of the targets' prior variance left after k picks; 1 at k = 0."""
    map_pool: np.ndarray
    """(p, 2) map coordinates of a sample of the pool."""
    map_targets: np.ndarray
    """(m, 2) map coordinates of the targets, or of a sample of them."""
    map_picks: np.ndarray
    """(n, 2) map coordinates of the picks."""
    map_explained: float
    """Share in [0, 1] of the variance that the two axes of the map show."""
    ids: Sequence[object]
    """(n,) id of each pick."""
    files: Sequence[str]
    """(n,) file that holds each pick."""
    rows: Sequence[int] | np.ndarray
    """(n,) row of each pick in its file."""
    nearest_ids: Sequence[object]
    """(n,) id, or index, of the target nearest to each pick."""
    nearest_cosines: np.ndarray
    """(n,) cosine between each pick and that target."""
    nearest_shown: Sequence[object] = ()
    """What there is to see of those targets, n texts or encoded images; empty if nothing is known."""
    num_passes: int | None = None
    """Passes over the pool, if counted."""
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Columns carried along from the pool, each with n values of any kind."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Further facts of the run, label to value (noise variance, dimensions, shards, directory)."""
    warnings: Sequence[str] = ()
    """Sentences the reader must see first."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each stage, in the order to be shown."""
    comparison: Sequence[ComparisonRow] = ()
    """How this selection compares with others, if measured."""
    comparison_caption: str = ""
    """Text that says what `comparison` counts."""
    targets_left: TargetsLeft | None = None
    """How much of each target's uncertainty is left, if known."""
    mixes: Sequence[Mix] = ()
    """Columns whose values are compared between picks and pool."""
    uses: Sequence[Use] = ()
    """How much of the budget and of the quotas was used."""
    reasons: Sequence[PickReason] | None = None
    """Why each row was picked, n of them, if explained."""
    is_directed: bool = True
    """Whether the rule looks for what says most about the targets."""

    def __post_init__(self) -> None:
        n = len(self.gains)
        if n < 1:
            raise InputError("A report needs at least one pick, but gains is empty.")
        if self.gain_unit not in ("nats", "variance"):
            raise InputError(f"gain_unit is {self.gain_unit!r}; it must be 'nats' or 'variance'.")
        named = {
            name: len(getattr(self, name))
            for name in ("ids", "files", "rows", "nearest_ids", "nearest_cosines", "map_picks")
        }
        named |= {f"columns[{name!r}]": len(values) for name, values in self.columns.items()}
        named |= {} if self.reasons is None else {"reasons": len(self.reasons)}
        named |= {"nearest_shown": len(self.nearest_shown)} if len(self.nearest_shown) else {}
        named["remaining_uncertainty less its first value"] = len(self.remaining_uncertainty) - 1
        for name, length in named.items():
            if length != n:
                raise InputError(f"{name} has {length} values, but there are {n} picks.")
        for name in ("map_pool", "map_targets", "map_picks"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 2 or shape[1] != 2:
                raise InputError(f"{name} has shape {shape}; it must have two columns.")

    @property
    def num_picks(self) -> int:
        """How many rows were picked: n."""
        return len(self.gains)

    @property
    def cumulative_gains(self) -> np.ndarray:
        """(n,) gain of the first k picks together, in `gain_unit`."""
        return np.cumsum(self.gains, dtype=np.float64)
