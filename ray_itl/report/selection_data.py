"""All a selection's report shows, as plain values.

Pieces of a selection's report that are there only where the run has them.

Everything a report shows, as plain values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from ray_itl.errors import InputError


class Use(NamedTuple):
    """How much of a limit was used.

    Attributes:
        name: what is limited, such as "budget" or "language=en".
        used: how much the picks use.
        least: what they must reach, if anything.
        most: what they may use, if that is bounded.
        unit: of all of them, such as "tokens"; may be empty.
    """

    name: str
    used: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

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
    """What share of the picks, and of the pool, has each value of a column.

    Attributes:
        column: name of the column.
        values: values in the order to be shown.
        in_picks: share of the picks with each value, in [0, 1].
        in_pool: share of the pool, or of a sample of it.
        sampled: rows that the pool's shares come from.
    """

    column: str
    values: Sequence[str]
    in_picks: Sequence[float]
    in_pool: Sequence[float]
    sampled: int


@dataclass(frozen=True, eq=False)
class TargetsLeft:
    """How much of each target's uncertainty is left.

    Attributes:
        ids: (m,) id, or row number, of each target.
        left: (m,) share of the target's variance before the first pick that is left after the last, in [0, 1].

    Raises:
        InputError: lengths disagree, or there are no targets.
    """

    ids: Sequence[object]
    left: np.ndarray

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.left) or len(self.left) == 0:
            raise InputError(f"there are {len(self.ids)} ids and {len(self.left)} shares of targets: give one of each")

    def worst(self, most: int) -> list[tuple[object, float]]:
        """Targets of which most is left, with that share, the worst first; among equals in the order given."""
        order = np.argsort(-np.asarray(self.left), kind="stable")[:most]
        return [(self.ids[k], float(self.left[k])) for k in order]


class PickReason(NamedTuple):
    """Why one row was picked.

    Attributes:
        nearest_targets: the targets most like it, with their cosines, nearest first.
        informed_targets: the targets it says most about, with their shares of its gain, the largest first.
        nearest_earlier: the earlier pick most like it, with its cosine; None for the first pick.
        runner_up: the row that would have been picked otherwise, and by how much the pick gained more; None if none.
    """

    nearest_targets: Sequence[tuple[object, float]]
    informed_targets: Sequence[tuple[object, float]]
    nearest_earlier: tuple[object, float] | None
    runner_up: tuple[object, float] | None


GainUnit = Literal["nats", "variance"]


class ComparisonRow(NamedTuple):
    """One way of picking: what its picks say about the targets, and how many were of the wanted kind.

    Attributes:
        name: the way of picking, such as "ITL", "random" or "nearest".
        remaining_uncertainty: share of the targets' prior variance left after its picks.
        wanted: how many of its picks were of that kind.
        share: the same as a share of its picks, in [0, 1].
    """

    name: str
    remaining_uncertainty: float
    wanted: int
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportData:
    """What one selection of n picks did; n is at least 1.

    Text may come from anywhere: the page escapes all of it.

    Attributes:
        title: heading of the page.
        acquisition: name of the rule that picked, such as "ITL".
        num_pool: rows in the pool.
        num_targets: target rows.
        num_asked: picks that were asked for; n may be smaller.
        seconds: wall-clock time of the run.
        num_passes: passes over the pool, if counted.
        gains: (n,) gain of each pick given the picks before it, in `gain_unit`.
        gain_unit: "nats" of information, or "variance" taken from the targets.
        remaining_uncertainty: (n + 1,) share of the targets' prior variance left after k picks; 1 at k = 0.
        irreducible: the share that labelling the whole pool would still leave, if known.
        map_pool: (p, 2) map coordinates of a sample of the pool.
        map_targets: (m, 2) map coordinates of the targets, or of a sample of them.
        map_picks: (n, 2) map coordinates of the picks.
        map_explained: share in [0, 1] of the variance that the two axes of the map show.
        ids: (n,) id of each pick.
        files: (n,) file that holds each pick.
        rows: (n,) row of each pick in its file.
        nearest_ids: (n,) id, or index, of the target nearest to each pick.
        nearest_cosines: (n,) cosine between each pick and that target.
        columns: columns carried along from the pool, each with n values of any kind.
        facts: further facts of the run, label to value (noise variance, dimensions, shards, directory).
        warnings: sentences the reader must see first.
        stage_seconds: seconds spent in each stage, in the order to be shown.
        comparison: how this selection compares with others, if measured.
        comparison_caption: text that says what `comparison` counts.
        targets_left: how much of each target's uncertainty is left, if known.
        mixes: columns whose values are compared between picks and pool.
        uses: how much of the budget and of the quotas was used.
        reasons: why each row was picked, n of them, if explained.
        is_directed: whether the rule looks for what says most about the targets.

    Raises:
        InputError: lengths disagree, there are no picks, or the gain unit is unknown.
    """

    title: str
    acquisition: str
    num_pool: int
    num_targets: int
    num_asked: int
    seconds: float
    gains: np.ndarray
    gain_unit: GainUnit
    remaining_uncertainty: np.ndarray
    map_pool: np.ndarray
    map_targets: np.ndarray
    map_picks: np.ndarray
    map_explained: float
    ids: Sequence[object]
    files: Sequence[str]
    rows: Sequence[int] | np.ndarray
    nearest_ids: Sequence[object]
    nearest_cosines: np.ndarray
    num_passes: int | None = None
    irreducible: float | None = None
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    comparison: Sequence[ComparisonRow] = ()
    comparison_caption: str = ""
    targets_left: TargetsLeft | None = None
    mixes: Sequence[Mix] = ()
    uses: Sequence[Use] = ()
    reasons: Sequence[PickReason] | None = None
    is_directed: bool = True

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
