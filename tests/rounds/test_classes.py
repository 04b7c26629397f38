"""Which class a label is, and which values are no labels beside the classes."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch

from ray_itl.errors import ConfigError
from ray_itl.rounds.classes import Classes, nearest, python_value

DIGITS = [3, 6, 9]
KINDS = ["Boot", "T-shirt", "of two  words"]


@pytest.mark.parametrize("label", [6, 6.0, np.int8(6), np.float32(6), Decimal("6.00"), torch.tensor(6)])
def test_numbers_are_one_whatever_their_type(label: Any) -> None:
    assert Classes(DIGITS).problem(python_value(label)) is None
    assert Classes(DIGITS).number(python_value(label)) == 1


@pytest.mark.parametrize(
    ("classes", "label", "output"),
    [(DIGITS, 4, None), (KINDS, "Boot", 0), (KINDS, "Sandal", None), ([True, False], False, 1), ([0.5, 1], 1, 1)],
)
def test_honest_labels(classes: list, label: Any, output: int | None) -> None:
    assert Classes(classes).problem(label) is None
    assert Classes(classes).number(label) == output
    assert Classes(classes).has(label) == (output is not None)
    others = Classes(classes, has_others=True)
    assert others.number(label) == (len(classes) if output is None else output)


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [
        (DIGITS, "3", r"'3' is text, data\.classes are numbers \(as 3\); did you mean 3\?"),
        (DIGITS, " 9.0 ", r"did you mean 9\?"),
        (DIGITS, "seven", r"'seven' is text, data\.classes are numbers \(as 3\)$"),
        (DIGITS, True, "True is true or false"),
        (DIGITS, 5.6, r"5\.6 is no whole number, as data\.classes are; the nearest is 6"),
        (DIGITS, b"3", r"b'3' is bytes.*did you mean 3\?"),
        (DIGITS, dt.date(2024, 1, 1), "of type date"),
        (DIGITS, None, "there is no label"),
        (DIGITS, float("nan"), "nan is no label"),
        (DIGITS, float("inf"), "inf is no label"),
        (DIGITS, [3], r"\[3\] is a list"),
        (DIGITS, {"label": 3}, "is a mapping"),
        (KINDS, "Boot ", r"'Boot ' is not in data\.classes; did you mean 'Boot'\?"),
        (KINDS, "boot", "did you mean 'Boot'"),
        (KINDS, "OF_two words", "did you mean 'of two  words'"),
        (KINDS, "Ｂoot", "did you mean 'Boot'"),  # a wide letter
        (KINDS, 3, r"3 is a number, data\.classes are text \(as 'Boot'\)$"),
        (["3", "6"], 3, r"3 is a number, data\.classes are text \(as '3'\); did you mean '3'\?"),
        ([True, False], 1, r"1 is a number, data\.classes are true or false"),
        ([True, False], "false", "did you mean False"),
        ([3, "9"], 9, r"9 is not in data\.classes; did you mean '9'\?"),
        ([], float("nan"), "nan is no label"),
    ],
)
def test_what_is_no_label_and_what_was_meant(classes: list, label: Any, message: str) -> None:
    problem = Classes(classes).problem(label)
    assert problem is not None
    assert re.search(message, problem), problem
    assert not Classes(classes).has(label)


def test_true_is_not_one() -> None:
    assert Classes([1, 0]).number(True) is None
    assert Classes([True]).number(1) is None


@pytest.mark.parametrize("classes", [[3, 3], [3, 3.0], [None], [float("nan")], [[1, 2]], ["a", "a"]])
def test_classes_that_cannot_be(classes: list) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes holds"):
        Classes(classes)


def test_the_nearest() -> None:
    assert nearest("Bot", ["Boot", "Shirt", 3]) == "Boot"
    assert nearest("zzz", ["Boot"]) is None
    assert nearest(7, [3, 6, 9, "7"]) == 6
    assert nearest(True, [1, 0]) is None
