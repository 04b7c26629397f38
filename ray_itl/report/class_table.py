"""Class by class: how many labels each had, how it is told from the others, and what it is taken for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ray_itl.report.learning_data import ClassScores
from ray_itl.text import clip, percent, plain, plural

_MOST_IN_GRID = 15
_MOST_ROWS = 40
_MOST_PAIRS = 12
_NAME_CHARS = 40


class Cell(NamedTuple):
    """A cell of the picture of confusions."""

    rows: str
    """How many; "" for none."""
    share: str
    """Of the rows of its class, from 0 to 1, as CSS has it."""
    is_strong: bool
    """Whether its colour is so strong that text on it must be light."""
    is_right: bool
    spoken: str
    """What it means, for who points at it."""


def class_table(scores: ClassScores | None) -> dict[str, Any] | None:
    """Return what the page shows of the classes; None where there are none."""
    if scores is None:
        return None
    names = [clip(plain(name), _NAME_CHARS) for name in scores.names]
    counts, said = scores.confusion.sum(axis=1), scores.confusion.sum(axis=0)
    right = scores.confusion.diagonal()
    order = np.arange(len(names))
    if len(names) > _MOST_ROWS:  # the worst first
        order = np.argsort(right / np.maximum(counts, 1), kind="stable")[:_MOST_ROWS]
    rows = [
        {
            "name": names[c],
            "trained": f"{int(scores.num_trained[c]):,}",
            "count": f"{int(counts[c]):,}",
            "recall": _share(int(right[c]), int(counts[c])),
            "precision": _share(int(right[c]), int(said[c])),
        }
        for c in order
    ]
    is_small = len(names) <= _MOST_IN_GRID
    return {
        "rows": rows,
        "caption": _caption(scores, len(rows)),
        "names": names,
        "grid": [_grid_row(c, names, scores.confusion) for c in range(len(names))] if is_small else [],
        "pairs": [] if is_small else _pairs(names, scores.confusion),
    }


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "–"


def _caption(scores: ClassScores, shown: int) -> str:
    left_out = len(scores.names) - shown
    worst = f" The {shown} of the least recall are shown, of {len(scores.names):,}." if left_out else ""
    return (
        f"The held-out rows by {plain(scores.whose)}. Recall is the share of a class's rows that are taken for it; "
        f"precision is the share of the rows taken for it that are its own.{worst}"
    )


def _grid_row(true: int, names: Sequence[str], confusion: np.ndarray) -> list[Cell]:
    total = int(confusion[true].sum())
    cells = []
    for said, count in enumerate(confusion[true].tolist()):
        share = count / total if total else 0.0
        spoken = f"{plural(count, 'row')} of {names[true]} taken for {names[said]}"
        cells.append(Cell(f"{count:,}" if count else "", f"{share:.3f}", share > 0.5, said == true, spoken))
    return cells


def _pairs(names: Sequence[str], confusion: np.ndarray) -> list[str]:
    """Return the commonest confusions in words, of classes too many for a picture."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        f"{names[true]} taken for {names[said]}: {plural(int(wrong[true, said]), 'row')}"
        for true, said in pairs
        if wrong[true, said]
    ]
