"""The classes of a task: which of them a label is, and what keeps a value from being a label at all.

Labels are compared as what they are: 3 and 3.0 are one number, while '3' is text and True is neither. A label that the
task does not list is honestly another class, unless it looks like one that it lists.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Number
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.text import clip

OTHER = "(other)"
"""The label of a row of no class, of whatever type classes are."""
_SHOWN_CHARS = 80
_TEXT, _NUMBER, _TRUTH = "text", "a number", "true or false"
_PLURALS = {_NUMBER: "numbers"}
_NO_LABELS = {list: "a list", tuple: "a list", dict: "a mapping", set: "a set"}


class Classes:
    """Which labels are the task's, in the order of the model's outputs."""

    def __init__(self, values: Sequence[Any], has_others: bool = False) -> None:
        """Take the classes, and whether all other labels share one more output.

        Raises:
            ConfigError: one of them cannot be a label, or comes twice.
        """
        self.values = [python_value(value) for value in values]
        self._others = len(self.values) if has_others else None
        self._numbers: dict[tuple[str, Any], int] = {}
        for number, value in enumerate(self.values):
            kind = kind_of(value)
            if kind is None or (kind, value) in self._numbers:
                why = "no class" if kind is None else "listed twice"
                raise ConfigError(
                    f"data.classes holds {shown(value)}, which is {why}: give each label of the task once"
                )
            self._numbers[kind, value] = number
        self._kinds = {kind for kind, _ in self._numbers}
        self._whole = all(kind != _NUMBER or value == int(value) for kind, value in self._numbers)
        self._alike = {_loosely(value): value for value in self.values}

    def number(self, label: Any) -> int | None:
        """Return the output of the model for a label; None for one that is not trained on."""
        kind = kind_of(label)
        return None if kind is None else self._numbers.get((kind, label), self._others)

    def has(self, label: Any) -> bool:
        """Whether a label is the task's."""
        kind = kind_of(label)
        return kind is not None and (kind, label) in self._numbers

    def problem(self, label: Any) -> str | None:
        """Return why a value cannot be a label beside these classes, with the class that may have been meant.

        None for a label of the task, and for one that is honestly another.
        """
        kind = kind_of(label)
        if kind is None:
            return _no_label(label)
        if not self.values or self.has(label) or label == OTHER:
            return None
        meant = self._alike.get(_loosely(label))
        hint = "" if meant is None else f"; did you mean {shown(meant)}?"
        if kind not in self._kinds:
            wanted = " and ".join(_PLURALS.get(each, each) for each in sorted(self._kinds))
            return f"{shown(label)} is {kind}, data.classes are {wanted} (as {shown(self.values[0])}){hint}"
        if kind == _NUMBER and self._whole and label != int(label):
            return f"{shown(label)} is no whole number, as data.classes are{self._nearest_words(label)}"
        return None if meant is None else f"{shown(label)} is not in data.classes{hint}"

    def _nearest_words(self, label: Any) -> str:
        near = nearest(label, self.values)
        return "" if near is None else f"; the nearest is {shown(near)}"


def python_value(value: Any) -> Any:
    """Return a scalar of NumPy, Arrow, or a tensor of one number as Python's own value; others as they are."""
    if hasattr(value, "as_py"):
        return value.as_py()
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def kind_of(value: Any) -> str | None:
    """Return what a value is, in words; None for what cannot be a label: missing, NaN, infinite, or a collection."""
    if isinstance(value, bool):
        return _TRUTH
    if isinstance(value, Number):
        number: Any = value
        finite = not isinstance(value, complex) and abs(number) < float("inf")  # false for NaN, too
        return _NUMBER if finite else None
    if isinstance(value, str):
        return _TEXT
    if isinstance(value, bytes):
        return "bytes"
    is_scalar = value is not None and value.__hash__ is not None and not isinstance(value, tuple | frozenset)
    return f"of type {type(value).__name__}" if is_scalar and value == value else None  # NaT differs from itself


def nearest(value: Any, candidates: Iterable[Any]) -> Any:
    """Return the candidate that `value` most looks like; None where none does."""
    same = [each for each in candidates if kind_of(each) == kind_of(value)]
    if isinstance(value, str):
        close = get_close_matches(value, same, 1)
        return close[0] if close else None
    return min(same, key=lambda each: abs(each - value)) if same and kind_of(value) == _NUMBER else None


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    return clip(repr(value), _SHOWN_CHARS)


def _no_label(value: Any) -> str:
    if value is None:
        return "there is no label"
    kind = next((words for each, words in _NO_LABELS.items() if isinstance(value, each)), None)
    return f"{shown(value)} is {kind or 'no label'}; a label is one number, text, or true or false"


def _loosely(value: Any) -> str:
    """Return what people take for the same: without regard to case, spaces, and whether a number is text."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = " ".join(unicodedata.normalize("NFKC", str(value)).replace("_", " ").casefold().split())
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else str(number)
