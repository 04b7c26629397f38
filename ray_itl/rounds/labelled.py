"""What a round trains on: every row labelled so far whose label is an output of the model, encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.trajectory import Pick
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.label_files import read_labels
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.training.examples import Examples, read_examples, write_examples
from ray_itl.training.learner import Learner


def write_labelled(
    data: TuningData,
    folder: RoundFolder,
    earlier: Sequence[Pick],
    new: Sequence[Pick],
    build: Callable[[], Learner],
) -> dict[str, int]:
    """Encode all labelled rows that are trained on into a round's file of examples, unless they are there.

    Args:
        data: The rows.
        folder: Of the round; it and those before it have their picks and labels.
        earlier: Picks of the rounds before.
        new: Picks of this round.
        build: Gives a model that encodes rows.

    Returns:
        num_labelled (picks that have a label), num_on_task and num_new_on_task (labels of data.classes; all where there
        are no classes) and num_trained.

    Raises:
        InputError: a value in a file of labels that is no label, or a row that cannot be encoded.
        RunDirectoryError: files of an earlier round are missing.
    """
    picks = [*earlier, *new]
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    on_task, classes = np.ones(len(picks), dtype=bool), None
    labels = _all_labels(data, folder) if data.classes.values else []
    if labels:
        on_task = np.array([data.classes.has(label) for label in labels])
    num_labelled = sum(label is not None for label in labels) if labels else len(picks)
    if data.objective == "classification":
        numbers = [data.classes.number(label) for label in labels]
        positions = positions[[number is not None for number in numbers]]
        classes = torch.tensor([number for number in numbers if number is not None], dtype=torch.int64)
    if len(positions) and not _are_there(folder.examples, classes):
        write_examples(folder.examples, Examples(data.encode(build(), data.pool, positions), classes))
    return {
        "num_labelled": num_labelled,
        "num_on_task": int(on_task.sum()),
        "num_new_on_task": int(on_task[len(earlier) :].sum()),
        "num_trained": len(positions),
    }


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
        picks, files = folder.read_picks(), folder.label_files()
        if picks is None or not files:
            raise RunDirectoryError(f"{folder.path} lacks selection.parquet or its labels: restore them")
        found += read_labels(files, [pick.row_id for pick in picks], data.classes).labels
    return found


def _are_there(path: Path, classes: Tensor | None) -> bool:
    """Whether an earlier try wrote these examples; labels may have been corrected since."""
    if not path.exists():
        return False
    try:
        found = read_examples(path).labels
    except InputError:  # damaged: they are made again
        return False
    return found is None if classes is None else found is not None and torch.equal(found, classes)
