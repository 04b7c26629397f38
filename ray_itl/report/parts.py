"""Pieces of a selection's report that are there only where the run has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
