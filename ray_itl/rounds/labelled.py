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
from ray_itl.rounds.label_files import read_labels
from ray_itl.rounds.round_folder import RoundFolder


@dataclass(frozen=True)
class Labelled:
    """The rows that a round trains on, in the order in which they were picked."""

    ids: list[Any]
    positions: np.ndarray
    labels: list[Any] | None
    """As they were given, None for a row without one; None where no labels are asked for."""
    classes: list[int] | None
    """Which output of the model each label is; None for objectives without classes."""
    counts: dict[str, int]
    """num_labelled (picks that have a label), num_on_task and num_new_on_task (labels of data.classes; all where there
    are no classes) and num_trained."""


def labelled_rows(data: TuningData, folder: RoundFolder, earlier: Sequence[Pick], new: Sequence[Pick]) -> Labelled:
    """Gather all rows that are trained on in a round.

    Args:
        data: The rows.
        folder: Of the round; it and those before it have their picks and labels.
        earlier: Picks of the rounds before.
        new: Picks of this round.

    Raises:
        InputError: a value in a file of labels that is no label.
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
        "num_labelled": len(picks) if labels is None else sum(label is not None for label in labels),
        "num_on_task": int(on_task.sum()),
        "num_new_on_task": int(on_task[len(earlier) :].sum()),
        "num_trained": len(kept),
    }
    positions = np.array([picks[k].position for k in kept], dtype=np.int64)
    given = None if labels is None else [labels[k] for k in kept]
    return Labelled([picks[k].row_id for k in kept], positions, given, classes, counts)


def positions_without_label(data: TuningData, folder: RoundFolder) -> np.ndarray:
    """Return positions of earlier rounds' picks that nobody gave a label: they taught the model nothing."""
    if folder.number == 1 or not data.classes.values or data.objective != "classification":
        return np.empty(0, dtype=np.int64)
    run, last = folder.path.parents[1], folder.number - 1
    labels = _all_labels(data, RoundFolder(run, last))
    picks = [pick for number in range(1, last + 1) for pick in RoundFolder(run, number).read_picks() or []]
    unlabelled = [pick.position for pick, label in zip(picks, labels, strict=True) if label is None]
    return np.array(unlabelled, dtype=np.int64)


def _all_labels(data: TuningData, last: RoundFolder) -> list[Any]:
    """Return the labels of every pick up to a round's, in order; None for those that have none."""
    found: list[Any] = []
    for number in range(1, last.number + 1):
        folder = RoundFolder(last.path.parents[1], number)
        labels = labels_of(folder, data.classes)
        if labels is None:
            raise RunDirectoryError(f"{folder.path} lacks selection.parquet or its labels: restore them")
        found += labels
    return found


def labels_of(folder: RoundFolder, classes: Classes) -> list[Any] | None:
    """Return the labels of a round's picks, in order, None for those without; None where it has no picks or labels.

    Raises:
        InputError: a value in a file of labels that is no label.
    """
    picks, files = folder.read_picks(), folder.label_files()
    if picks is None or not files:
        return None
    return read_labels(files, [pick.row_id for pick in picks], classes).labels
