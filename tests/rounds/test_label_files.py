"""What people give back: labels in CSV or Parquet, all or some, and what is refused by file and row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import ConfigError, InputError
from ray_itl.rounds.classes import OTHER, Classes
from ray_itl.rounds.label_files import SKIP, GivenLabels, names_of, read_labels, written

IDS = [30, 10, -5]
TEXTS, NUMBERS = ["spam", "ham"], [3, 6]


def read(
    folder: Path, *contents: str | bytes | dict, ids: Sequence[Any] = IDS, classes: Sequence[Any] = TEXTS
) -> GivenLabels:
    """Write each to a file, texts to CSV and columns to Parquet, and read all of them."""
    files = []
    for number, content in enumerate(contents):
        name = f"labels{number or ''}"
        if isinstance(content, dict):
            files.append(folder / f"{name}.parquet")
            pq.write_table(pa.table(content), files[-1])
        else:
            files.append(folder / f"{name}.csv")
            files[-1].write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labels(files, ids, Classes(classes))


@pytest.mark.parametrize(
    ("content", "classes", "labels"),
    [
        ("id,label\n30,spam\n10,ham\n-5,(other)\n", TEXTS, ["spam", "ham", OTHER]),
        ("id,label\n10,ham\n", TEXTS, [None, "ham", None]),
        ('label,text,id\nham,"a\nb",10\n,,30\n', TEXTS, [None, "ham", None]),
        ("\ufeffid;label\r\n30;spam\r\n\r\n10; ham \r\n", TEXTS, ["spam", "ham", None]),
        ("id\tlabel\n30\t3\n10\t6.0\n", NUMBERS, [3, 6, None]),
        ("id,label\n30.0,3\n", NUMBERS, [3, None, None]),
        ("id,label\n30,TRUE\n10,false\n", [True, False], [True, False, None]),
        ("id,label\n30,3\n10,6.5\n", [3.0, 6.5], [3.0, 6.5, None]),
        ("id,label\n", TEXTS, [None, None, None]),
        ({"id": [10, 30], "label": ["ham", None]}, TEXTS, [None, "ham", None]),
        ({"id": [10, 30], "label": [3.0, float("nan")]}, NUMBERS, [None, 3, None]),
        ({"id": [10], "label": ["eggs"]}, TEXTS, [None, "eggs", None]),  # honestly another class
    ],
)
def test_labels_are_in_the_order_of_the_picks(
    tmp_path: Path, content: str | dict, classes: list, labels: list[Any]
) -> None:
    found = read(tmp_path, content, classes=classes)
    assert found.labels == labels
    assert found.missing == [row_id for row_id, label in zip(IDS, labels, strict=True) if label is None]


def test_several_people_may_share_the_work(tmp_path: Path) -> None:
    found = read(
        tmp_path, "id,label\n30,spam\n10,(skip)\n", "id,label\n10,ham\n30,spam\n", {"id": [-5], "label": [SKIP]}
    )
    assert found.labels == ["spam", "ham", None]
    assert (found.skipped, found.missing) == ({-5}, [])
    assert found.suffice("all")
    assert str(found) == "2 of 3 rows are labelled, 1 skipped"


@pytest.mark.parametrize(
    ("content", "for_all", "for_any", "words"),
    [
        ("id,label\n", False, False, "0 of 3 rows are labelled, 3 missing (ids 30, 10, -5)"),
        ("id,label\n10,ham\n30,(skip)\n", False, True, "1 of 3 rows are labelled, 1 skipped, 1 missing (ids -5)"),
        ("id,label\n10,(skip)\n30,(skip)\n-5,(skip)\n", True, True, "0 of 3 rows are labelled, 3 skipped"),
    ],
)
def test_a_part_is_enough_for_those_who_say_so(
    tmp_path: Path, content: str, for_all: bool, for_any: bool, words: str
) -> None:
    found = read(tmp_path, content)
    assert (found.suffice("all"), found.suffice("any"), str(found)) == (for_all, for_any, words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,label\n30,spam\n31,ham\n32,ham\n", r"labels\.csv: row 3 .*: id '31' was not asked for \(1 more rows"),
        ("id,label\n30,Spam\n", r"labels\.csv: row 2 .*, id 30: 'Spam' is not .*; did you mean 'spam'\?; write one of"),
        ("id,label\n10,ham\n30,spma\n", r"row 3 .*, id 30: 'spma' is not in data\.classes; write one of spam, ham, \("),
        ("id,label\n30,spam\n30,ham\n", r"row 3 .*: id 30 is labelled 'ham', but 'spam' by .*row 2 .*: keep one"),
        ("id,kind\n30,spam\n", r"labels\.csv has no column label: give the columns id and label"),
        ("", r"labels\.csv cannot be read \(Empty CSV file\)"),
        ("id,label\n30,m\xfcll\n".encode("cp1252"), r"labels\.csv cannot be read .*: write it again, as UTF-8"),
        ("id,label\n30,spam,x\n", r"labels\.csv cannot be read .*Expected 2 columns, got 3"),
        (
            {"id": [10, 7], "label": ["ham", "ham"]},
            r"labels\.parquet: row 1 \(counting from 0\): id 7 was not asked for",
        ),
        ({"id": [10, 10], "label": ["ham", "spam"]}, r"row 1 .*: id 10 is labelled 'spam', but 'ham' by .*row 0"),
        ({"id": [10, 30], "label": [[1], [2]]}, r"id 10: \[1\] is a list.*\(1 more rows are no better\)"),
        ({"id": [10], "label": [3]}, r"row 0 .*, id 10: 3 is a number, data\.classes are text"),
        ({"id": [10], "kind": ["x"]}, r"labels\.parquet has no column label"),
    ],
)
def test_what_cannot_be_used_is_named_by_file_and_row(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


def test_contradictions_between_files_name_both(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels1\.csv: row 2 .* labelled 'ham', but 'spam' by .*labels\.csv: row 3"):
        read(tmp_path, "id,label\n10,ham\n30,spam\n", "id,label\n30,ham\n")


def test_texts_are_no_labels_beside_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"id 30: 'x' is text, data\.classes are numbers \(as 3\); write one of 3, 6,"):
        read(tmp_path, "id,label\n30,x\n", classes=NUMBERS)


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(min_size=1)), min_size=1, unique=True))
def test_what_is_written_is_no_formula_and_tells_ids_apart(ids: list[Any]) -> None:
    texts = [written(row_id) for row_id in ids if isinstance(row_id, str)]
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in texts)
    assert len({written(row_id) for row_id in ids if isinstance(row_id, int)}) == sum(
        isinstance(row_id, int) for row_id in ids
    )


def test_ids_and_labels_that_look_like_formulas_come_back(tmp_path: Path) -> None:
    ids, classes = ["=1+1", "-x", "@me"], ["+1", "-1"]
    rows = "".join(f"{written(i)},{written(c)}\n" for i, c in zip(ids, ["+1", "-1", "+1"], strict=True))
    assert read(tmp_path, f"id,label\n{rows}", ids=ids, classes=classes).labels == ["+1", "-1", "+1"]


@pytest.mark.parametrize("classes", [[3, "3"], [True, "true"], ["a", SKIP], [OTHER], [""]])
def test_classes_that_cannot_be_written_apart_are_refused(classes: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"^data\.classes holds .*cannot write apart"):
        names_of(Classes(classes))
