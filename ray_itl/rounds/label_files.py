"""Labels that files of a round give: all or some of them, from one person or several, in CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ray_itl.errors import ConfigError, InputError
from ray_itl.rounds.classes import OTHER, Classes, kind_of, shown
from ray_itl.text import clip

SKIP = "(skip)"
"""What stands in place of a label that nobody can give."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = ",;\t"
_COLUMNS = ("id", "label")
_NAMED = 5


@dataclass(frozen=True)
class GivenLabels:
    """What is known of a round's picks."""

    ids: list[Any]
    """Of the picks, in order."""
    labels: list[Any]
    """The label of each; None where there is none."""
    skipped: frozenset[Any] = frozenset()
    """Ids of those that were looked at and given none."""

    @property
    def num_labelled(self) -> int:
        """How many have a label."""
        return sum(label is not None for label in self.labels)

    @property
    def missing(self) -> list[Any]:
        """Ids of those that have neither been labelled nor skipped."""
        pairs = zip(self.ids, self.labels, strict=True)
        return [row_id for row_id, label in pairs if label is None and row_id not in self.skipped]

    def suffice(self, wait_for: str) -> bool:
        """Whether a round that waits for "all" or "any" can go on."""
        return not self.missing or (wait_for == "any" and self.num_labelled > 0)

    def __str__(self) -> str:
        """Say how many rows are labelled, skipped and missing, and which are."""
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        missing = f", {len(self.missing):,} missing (ids {some(self.missing)})" if self.missing else ""
        return f"{self.num_labelled:,} of {len(self.ids):,} rows are labelled{skipped}{missing}"


class _Entry(NamedTuple):
    """One row of a file."""

    place: str
    row_id: Any
    label: Any
    """None: not labelled yet."""


def read_labels(files: Sequence[Path], ids: Sequence[Any], classes: Classes) -> GivenLabels:
    """Return what some files, each with the columns id and label, say about a round's picks.

    A row without a label is one that is yet to be labelled; one labelled by one person and skipped by another is
    labelled. Typed by hand, labels in CSV must be of the classes, or (other).

    Args:
        files: Any number of .csv and .parquet.
        ids: Of the picks, in order.
        classes: Beside which the values must be labels.

    Raises:
        InputError: a file cannot be read, has ids that were not asked for, values that are no labels, or labels that
            contradict others (names file and row).
    """
    found: dict[Any, _Entry] = {}
    for file in files:
        for entry in _checked(file, list(_entries(file, ids, classes)), ids, classes):
            before = found.get(entry.row_id)
            if before is None or before.label == SKIP:
                found[entry.row_id] = entry
            elif entry.label not in (SKIP, before.label):
                raise InputError(
                    f"{entry.place}: id {entry.row_id!r} is labelled {shown(entry.label)}, but {shown(before.label)} "
                    f"by {before.place}: keep one of the two"
                )
    skipped = frozenset(row_id for row_id, entry in found.items() if entry.label == SKIP)
    labels = [found[row_id].label if row_id in found and row_id not in skipped else None for row_id in ids]
    return GivenLabels(list(ids), labels, skipped)


def written(value: Any) -> str:
    """Return an id or a label as CSV files have it: spreadsheets take none of them for a formula."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def names_of(classes: Classes) -> dict[str, Any]:
    """Return the classes by the names that people write; ConfigError where two are written alike."""
    names: dict[str, Any] = {}
    for value in classes.values:
        name = written(value)
        if name in names or name in (SKIP, OTHER, ""):
            raise ConfigError(
                f"data.classes holds {shown(value)}, which people cannot write apart from other labels: name it "
                "otherwise"
            )
        names[name] = value
    return names


def some(found: Sequence[Any]) -> str:
    """Name the first few of some ids."""
    return ", ".join(map(repr, found[:_NAMED])) + (", ..." if len(found) > _NAMED else "")


def _checked(file: Path, entries: list[_Entry], ids: Sequence[Any], classes: Classes) -> Iterator[_Entry]:
    """Yield the rows that have a label; InputError about the first that cannot be used, and how many there are."""
    asked = set(ids)
    strangers = [entry for entry in entries if entry.row_id not in asked]
    if strangers:
        raise InputError(
            f"{strangers[0].place}: id {shown(strangers[0].row_id)} was not asked for{_more(strangers)}: give labels "
            f"for the rows of {file.with_name('to_label.parquet')}, their ids as they are there"
        )
    labelled = [entry for entry in entries if not _is_missing(entry.label)]
    problems = [(each, words) for each in labelled if each.label != SKIP and (words := classes.problem(each.label))]
    if problems:
        first, words = problems[0]
        raise InputError(
            f"{first.place}, id {first.row_id!r}: {words}{_more(problems)}; correct the labels, or data.classes in a "
            "new run"
        )
    yield from labelled


def _is_missing(label: Any) -> bool:
    return label is None or label != label


def _more(found: Sequence[Any]) -> str:
    return f" ({len(found) - 1:,} more rows are no better)" if len(found) > 1 else ""


def _entries(file: Path, ids: Sequence[Any], classes: Classes) -> Iterator[_Entry]:
    """Yield the rows of a file; those of CSV with ids and labels of the types that picks and classes have."""
    if file.suffix == ".parquet":
        table = _read(file, lambda: pq.read_table(file))
        for row, (row_id, label) in enumerate(zip(*_pair(table, file), strict=True)):
            yield _Entry(f"{file}: row {row} (counting from 0)", row_id, label)
        return
    table = _read(file, lambda: _read_csv(file))
    by_text, names = {written(row_id): row_id for row_id in ids}, names_of(classes)
    for row, (row_id, label) in enumerate(zip(*_pair(table, file), strict=True), start=2):
        if row_id or label:
            place = f"{file}: row {row} (the names are row 1)"
            yield _Entry(place, _known(row_id, by_text), _label(label, names, classes, f"{place}, id {row_id}"))


def _pair(table: pa.Table, file: Path) -> tuple[list[Any], list[Any]]:
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise InputError(f"{file} has no column {', '.join(missing)}: give the columns id and label")
    return table.column("id").to_pylist(), table.column("label").to_pylist()


def _read(file: Path, read: Callable[[], pa.Table]) -> pa.Table:
    try:
        return read()
    except (OSError, pa.ArrowException) as error:
        remedy = "write it again, as UTF-8" if file.suffix == ".csv" else "restore it"
        raise InputError(f"{file} cannot be read ({clip(str(error), 300)}): {remedy}") from error


def _read_csv(file: Path) -> pa.Table:
    delimiter, names = _header(file)
    wanted = [name for name in _COLUMNS if name in names]
    return pacsv.read_csv(
        file,
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())),
    )


def _header(file: Path) -> tuple[str, list[str]]:
    """Return what parts the values, and the columns' names: some spreadsheets write semicolons."""
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        line = stream.readline(1 << 16)
    delimiter = max(_DELIMITERS, key=line.count)
    return delimiter, next(csv.reader([line], delimiter=delimiter), [])


def _known(text: str, by_text: Mapping[str, Any]) -> Any:
    """Return the id of a pick that a text is; the text itself where it is none. Some programs write 7 as 7.0."""
    text = text.strip()
    whole = text.removesuffix(".0")
    return by_text.get(text, by_text.get(f"'{text}", by_text.get(whole, text)))


def _label(text: str, names: Mapping[str, Any], classes: Classes, place: str) -> Any:
    """Return the class that a text is, OTHER, SKIP, or None; InputError where it is none of them."""
    text = text.strip()
    if text in ("", SKIP, OTHER):
        return text or None
    if (found := names.get(text, names.get(f"'{text}"))) is not None:
        return found
    simple = {_simplest(name): value for name, value in names.items() if kind_of(value) != "text"}
    if (found := simple.get(_simplest(text))) is not None:
        return found
    hint = classes.problem(text) or f"{shown(text)} is not in data.classes"
    meant = f"{hint}; write one of {clip(', '.join(names), 200)}, {OTHER} for a row of none of them, or {SKIP}"
    raise InputError(f"{place}: {meant}")


def _simplest(text: str) -> str:
    """Return a number or truth value as `written` has it, however a spreadsheet did: 3.0 is 3, TRUE is true."""
    try:
        number = float(text)
    except ValueError:
        return text.lower()
    return str(int(number)) if number.is_integer() else str(number)
