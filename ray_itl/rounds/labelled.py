"""What a round trains on: every row labelled so far whose label is an output of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_itl.core.trajectory import Pick
from ray_itl.errors import RunDirectoryError
from ray_itl.rounds.classes import Classes
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.labelling import labels_in_order
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import DataSettings


@dataclass(frozen=True)
class Labelled:
    """The rows that a round trains on, in the order in which they were picked."""

    ids: list[Any]
    positions: np.ndarray
    labels: list[Any] | None
    """As they were given; None where no labels are asked for."""
    classes: list[int] | None
    """Which output of the model each label is; None for objectives without classes."""
    counts: dict[str, int]
    """num_labelled, num_on_task and num_new_on_task (labels of data.classes; all where there are no classes) and
    num_trained."""


def labelled_rows(data: TuningData, folder: RoundFolder, earlier: Sequence[Pick], new: Sequence[Pick]) -> Labelled:
    """Gather all rows that are trained on in a round.

    Args:
        data: The rows.
        folder: Of the round; it and those before it have their picks and labels.
        earlier: Picks of the rounds before.
        new: Picks of this round.

    Raises:
        InputError: a value in a labels.parquet that is no label.
        RunDirectoryError: files of an earlier round are missing.
    """
    picks = [*earlier, *new]
    on_task = np.ones(len(picks), dtype=bool)
    labels = _all_labels(data, folder) if data.classes.values else None
    if labels is not None:
        on_task = np.array([data.classes.has(label) for label in labels])
    kept, classes = list(range(len(picks))), None
    if data.objective == "classification":
        numbers = [data.classes.number(label) for label in labels or []]
        kept = [k for k, number in enumerate(numbers) if number is not None]
        classes = [number for number in numbers if number is not None]
    counts = {
        "num_labelled": len(picks),
        "num_on_task": int(on_task.sum()),
        "num_new_on_task": int(on_task[len(earlier) :].sum()),
        "num_trained": len(kept),
    }
    positions = np.array([picks[k].position for k in kept], dtype=np.int64)
    given = None if labels is None else [labels[k] for k in kept]
    return Labelled([picks[k].row_id for k in kept], positions, given, classes, counts)


def _all_labels(data: TuningData, last: RoundFolder) -> list[Any]:
    """Return the labels of every pick up to a round's, in order."""
    found: list[Any] = []
    for number in range(1, last.number + 1):
        folder = RoundFolder(last.path.parents[1], number)
        labels = labels_of(folder, data.options)
        if labels is None:
            raise RunDirectoryError(f"{folder.path} lacks selection.parquet or labels.parquet: restore them")
        found += labels
    return found


def labels_of(folder: RoundFolder, options: DataSettings) -> list[Any] | None:
    """Return the labels of a round's picks, in order; None where it has no picks or labels.

    Raises:
        InputError: a value in labels.parquet that is no label.
    """
    picks, labels = folder.read_picks(), folder.read_labels()
    if picks is None or labels is None:
        return None
    return labels_in_order(labels, picks, str(folder.labels), Classes(options.classes))
