"""What the page of a fine-tuning shows of its rows: class by class, and what each round picked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ray_itl.errors import MissingExtraError
from ray_itl.images import picture_of_numbers
from ray_itl.report.figures import even_points
from ray_itl.report.learning_data import ClassScores, PickedRound, PickedRow
from ray_itl.report.table import MAX_THUMBNAILS, holds_images, thumbnails
from ray_itl.rounds.classes import Classes
from ray_itl.rounds.data import TuningData, open_tuning_data
from ray_itl.rounds.labelled import labels_of
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.text import clip, plain
from ray_itl.training.chat import as_people_read

_MOST_ROUNDS = 20
_MOST_TEXTS, _MOST_PICTURES = 5, 24
_TEXT_CHARS, _LABEL_CHARS = 240, 30


def class_scores(runs: Sequence[Path], settings: FineTuneSettings, name: str) -> ClassScores | None:
    """Return how classes were told apart after the last round, summed over runs; None where that was not recorded.

    Args:
        runs: Directories of finished rounds, each of its own seed.
        settings: Of any of them.
        name: Whose they are, as the page calls it.
    """
    classes = Classes(settings.data.classes, has_others=settings.data.others == "class")
    names = [*map(str, classes.values), *(["others"] if settings.data.others == "class" else [])]
    finished = [[record for record in _records(run) if record["round"]] for run in runs]
    if not finished or not all(records and "confusion" in records[-1] for records in finished):
        return None
    triples = [triple for records in finished for triple in records[-1]["confusion"]]
    size = max([len(names), *(1 + max(true, said) for true, said, _ in triples)])
    names += [f"output {number}" for number in range(len(names), size)]  # of a model with more than there are classes
    confusion, trained = np.zeros((size, size), dtype=np.int64), np.zeros(size, dtype=np.int64)
    for true, said, count in triples:
        confusion[true, said] += count
    for run, records in zip(runs, finished, strict=True):
        for record in records:
            for label in labels_of(RoundFolder(run, record["round"]), classes) or []:
                if (number := classes.number(label)) is not None:
                    trained[number] += 1
    last, seeds = finished[0][-1]["round"], f", {len(runs)} seeds together" if len(runs) > 1 else ""
    whose = f"{name} after round {last}{seeds}"
    return ClassScores(names=names, num_trained=trained, confusion=confusion, whose=whose)


def picked_rounds(run: Path, settings: FineTuneSettings) -> list[PickedRound]:
    """Return what the rounds of a run picked, of many rounds some, of many rows the first.

    Rows are shown as pictures where they are images, or numbers that make one; as texts where they are text. Others
    have nothing to look at, and there are no rounds to show then.
    """
    numbers = [record["round"] for record in _records(run) if record["round"]]
    numbers = [numbers[k] for k in even_points(len(numbers), _MOST_ROUNDS)]
    if not numbers:
        return []
    data = open_tuning_data(settings)
    most = min(_MOST_PICTURES, max(_MOST_TEXTS, MAX_THUMBNAILS // len(numbers)))
    folders = [RoundFolder(run, number) for number in numbers]
    positions = [
        np.array([pick.position for pick in (folder.read_picks() or [])[:most]], np.int64) for folder in folders
    ]
    values = as_people_read(data.raw(data.pool, np.concatenate(positions)))
    seen, are_pictures = _seen(values)
    if seen is None:
        return []
    shown, start = [], 0
    for folder, some in zip(folders, positions, strict=True):
        of_round = seen[start : start + len(some)][: most if are_pictures else _MOST_TEXTS]
        shown.append(_round(folder, data, of_round, are_pictures))
        start += len(some)
    return shown


def _round(folder: RoundFolder, data: TuningData, seen: Sequence[str], are_pictures: bool) -> PickedRound:
    labels = labels_of(folder, data.classes)
    count = len(folder.read_picks() or [])
    given = [None] * count if labels is None else labels
    are_on_task = [labels is None or data.classes.has(label) for label in given]
    told = ("" if label is None else clip(plain(label), _LABEL_CHARS) for label in given)
    rows = [PickedRow(*row) for row in zip(seen, told, are_on_task, strict=False)]
    return PickedRound(folder.number, count, sum(are_on_task), rows, are_pictures)


def _seen(values: Sequence[Any]) -> tuple[list[str] | None, bool]:
    """Return rows as a person sees them, and whether those are pictures; None where there is nothing to see."""
    if holds_images(values):
        return thumbnails(values), True
    if any(isinstance(value, str) for value in values):
        return [clip(plain(value or ""), _TEXT_CHARS) for value in values], False
    try:
        drawn = [picture_of_numbers(value) if _are_pixels(value) else None for value in values]
    except MissingExtraError:
        return None, False
    return (thumbnails(drawn), True) if holds_images(drawn) else (None, False)


def _are_pixels(value: Any) -> bool:
    """Whether numbers may be pixels: embeddings, of as many, have some below 0."""
    return isinstance(value, list) and len(value) > 3 and all(isinstance(x, int | float) and x >= 0 for x in value)


def _records(run: Path) -> list[dict[str, Any]]:
    """Return the records of all finished rounds, in order."""
    folders: Iterable[int] = sorted(int(path.parent.name) for path in (run / "rounds").glob("*/round.json"))
    return [record for number in folders if (record := RoundFolder(run, number).read_record()) is not None]
