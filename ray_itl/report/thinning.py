"""Which points of a long curve or a crowded map to draw."""

import numpy as np


def curve_points(values: np.ndarray, *, most: int = 1200) -> np.ndarray:
    """Indices, ascending, of the points that draw `values` as if all were drawn.

    Kept are the first and last points, the beginning densely (where gains change fastest and a logarithmic
    axis spreads them out), and the lowest and highest point of each of many equal stretches, so that no
    spike is lost.

    Args:
        values: (k,) a curve at equally spaced points.
        most: curves up to this long are kept whole; longer ones keep at most this many points.

    Returns:
        (at most `most`,) int64.
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    head = np.arange(most // 4)
    spread = np.geomspace(1, count, most // 4).astype(np.int64) - 1
    extremes = []
    for stretch in np.array_split(np.arange(count), most // 4 - 1):
        part = values[stretch]
        extremes += [stretch[part.argmin()], stretch[part.argmax()]]
    return np.unique(np.concatenate([head, spread, extremes, [count - 1]])).astype(np.int64)


def even_points(count: int, most: int) -> np.ndarray:
    """(min(count, most),) int64 indices spread evenly over `range(count)`, ascending."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def early_points(count: int, most: int) -> np.ndarray:
    """At most `most` indices of `range(count)`, ascending: half of them the first ones, the rest even."""
    if count <= most:
        return np.arange(count)
    head = most // 2
    return np.concatenate([np.arange(head), head + even_points(count - head, most - head)])
