"""Class by class: counts, recall, precision, and the picture of what is taken for what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ray_itl.errors import InputError
from ray_itl.report.class_table import class_table
from ray_itl.report.learning_data import ClassScores, PickedRound, PickedRow
from ray_itl.report.learning_page import render_learning
from tests.report.learning_helpers import make_class_scores, make_learning_report
from tests.report.pages import HOSTILE, Page

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTqeTQAAAABJRU5ErkJggg=="
)


def scores(confusion: list[list[int]]) -> ClassScores:
    names = [chr(97 + k) for k in range(len(confusion))]
    return ClassScores(
        names=names, num_trained=np.ones(len(names), np.int64), confusion=np.array(confusion), whose="it"
    )


def test_recall_and_precision_are_of_lines_and_columns() -> None:
    table = class_table(scores([[8, 2, 0], [1, 9, 0], [0, 0, 0]]))
    assert table is not None
    told = [(row["name"], row["count"], row["recall"], row["precision"]) for row in table["rows"]]
    assert told == [("a", "10", "80%", "88.9%"), ("b", "10", "90%", "81.8%"), ("c", "0", "–", "–")]
    first = table["grid"][0]
    assert [(cell.rows, cell.share, cell.is_right, cell.is_strong) for cell in first] == [
        ("8", "0.800", True, True),
        ("2", "0.200", False, False),
        ("", "0.000", False, False),
    ]
    assert first[1].spoken == "2 rows of a taken for b"
    assert class_table(None) is None


@given(arrays.arrays(np.int64, st.integers(1, 30).map(lambda c: (c, c)), elements=st.integers(0, 50)))
def test_every_confusion_makes_a_table(confusion: np.ndarray) -> None:
    table = class_table(scores(confusion.tolist()))
    assert table is not None
    assert bool(table["grid"]) == (len(confusion) <= 15)
    assert sum(int(row["count"].replace(",", "")) for row in table["rows"]) == confusion.sum()


def test_many_classes_show_the_worst_and_the_commonest_confusions() -> None:
    confusion = np.diag(np.full(60, 10))
    confusion[7, 8], confusion[7, 7] = 9, 1
    table = class_table(
        ClassScores(names=[f"class {k}" for k in range(60)], num_trained=np.zeros(60), confusion=confusion, whose="it")
    )
    assert table is not None
    assert len(table["rows"]) == 40
    assert table["rows"][0]["name"] == "class 7"
    assert "40 of the least recall are shown, of 60" in table["caption"]
    assert (table["grid"], table["pairs"]) == ([], ["class 7 taken for class 8: 9 rows"])


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match="3 classes need a confusion of 3 x 3"):
        replace(make_class_scores(["a", "b", "c"]), confusion=np.zeros((2, 2)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_texts_and_labels_change_no_element(text: str) -> None:
    def page(word: str) -> Page:
        picked = [PickedRound(1, 2, 1, [PickedRow(word, word, True), PickedRow(word, word, False)], False)]
        classes = replace(make_class_scores(["a", word, "c"]), whose=word)
        return Page(render_learning(make_learning_report(1, classes=classes, picked=picked)))

    hostile, harmless = page(text), page("(harmless)")
    assert hostile.shape == harmless.shape
    assert hostile.running == harmless.running
    assert "".join(hostile.words).count(text) >= 6


def test_the_page_has_classes_and_picks_and_does_without() -> None:
    page = Page(render_learning(make_learning_report(1)))
    words = " ".join(" ".join(page.words).split())
    for part in (
        "Class by class",
        "cats 1 20 75% 75%",
        "What is taken for what",
        "Round 1 4 rows, 3 on task",
        "a text about dogs",
    ):
        assert part in words, part
    assert "no picture" in words
    picked = [PickedRound(3, 1, 1, [PickedRow(PIXEL, "cats", True)], True)]
    drawn = Page(render_learning(make_learning_report(1, picked=picked)))
    assert [attributes["src"] for tag, attributes in drawn.elements if tag == "img"] == [PIXEL]
    without = Page(render_learning(make_learning_report(1, classes=None, picked=())))
    assert not {"Class by class", "What was picked"} & {word.strip() for word in without.words}
