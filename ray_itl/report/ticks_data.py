"""Everything the report over the ticks of a scheduled curation shows, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ray_itl.errors import InputError


class TickPoint(NamedTuple):
    """One tick.

    Attributes:
        name: what it is called.
        time: when it was published, seconds since 1970.
        new_files: files that no tick saw before.
        new_rows: their rows.
        picks: rows picked.
        gain: what they are worth given all earlier picks.
        uncertainty_left: share of the targets' prior variance left after it.
        stop: why it picked no more, in words.
        path: where its results are, relative to the page.
    """

    name: str
    time: float
    new_files: int
    new_rows: int
    picks: int
    gain: float
    uncertainty_left: float
    stop: str
    path: str


@dataclass(frozen=True, kw_only=True)
class TicksReport:
    """The ticks of one state directory, first to last. Text may come from anywhere: the page escapes all of it.

    Attributes:
        title: heading of the page.
        unit: what gains are measured in: "nats" or "variance".
        ticks: at least one.
        uncertainty_at_first: share of the targets' prior variance that was left before the first tick.

    Raises:
        InputError: no ticks.
    """

    title: str
    unit: str
    ticks: Sequence[TickPoint]
    uncertainty_at_first: float = 1.0

    def __post_init__(self) -> None:
        if not self.ticks:
            raise InputError("A report over ticks needs at least one tick.")

    @property
    def num_picks(self) -> int:
        """Picks of all ticks."""
        return sum(tick.picks for tick in self.ticks)

    @property
    def total_gain(self) -> float:
        """What all picks are worth."""
        return sum(tick.gain for tick in self.ticks)
