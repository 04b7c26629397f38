"""Where a selection could sensibly have stopped."""

from typing import NamedTuple

import numpy as np

from ray_itl.report.words import percent, plural

SMALL = 0.1


class SensibleEnd(NamedTuple):
    """The first `picks` picks would do: together they give `share` of the whole gain."""

    picks: int
    share: float


def sensible_end(gains: np.ndarray) -> SensibleEnd | None:
    """The smallest k after which no pick adds as much as a tenth of the mean gain of the first k; None if k is n.

    Scale-free, and no later pick is overlooked: gains may rise again.

    Args:
        gains: (n,) gain of each pick, n at least 1.
    """
    gains = np.asarray(gains, dtype=np.float64)
    total = np.cumsum(gains)
    count = np.arange(1, len(gains) + 1)
    largest_later = np.append(np.maximum.accumulate(gains[::-1])[::-1][1:], -np.inf)
    picks = int(np.argmax(largest_later < SMALL * total / count)) + 1
    if picks == len(gains) or total[-1] <= 0:
        return None
    return SensibleEnd(picks, min(1.0, float(total[picks - 1] / total[-1])))


def end_in_words(gains: np.ndarray) -> str:
    """One or two sentences on where to stop, and why."""
    end = sensible_end(gains)
    if len(gains) == 1:
        return "One pick alone does not tell where to stop."
    if end is None:
        return "No sensible end yet: the last picks still add at least a tenth of what picks added on average."
    return (
        f"{plural(end.picks, 'pick')} would do: they give {percent(end.share)} of all that was gained, and each pick "
        "after them adds less than a tenth of what they added on average (the dotted line)."
    )
