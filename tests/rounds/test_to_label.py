"""What people get to label a round by: Parquet, a table for spreadsheets, and a page."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.core.trajectory import Pick
from ray_itl.errors import ConfigError
from ray_itl.images import picture_of_numbers, read_image
from ray_itl.rounds.classes import Classes
from ray_itl.rounds.group_settings import DataSettings, LabelSettings
from ray_itl.rounds.label_files import GivenLabels, read_labels
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.to_label import write_to_label
from ray_itl.sources.open import open_raw_rows
from tests.report.pages import Page
from tests.report.test_thumbnails import encoded

PICKS = [Pick(2, 30, 0.5), Pick(0, 10, 0.4)]


def ask(folder: RoundFolder, table: pa.Table, raw: str, given: GivenLabels | None = None, **labels: Any) -> dict:
    """Write the files, and return the rows of the page."""
    settings = FineTuneSettings(
        data=DataSettings(raw_column=raw, classes=["spam", "=ham"]), labels=LabelSettings("people", **labels)
    )
    rows = open_raw_rows(table, id_column="id", columns=[raw, *settings.labels.columns])
    folder.create()
    ids = [pick.row_id for pick in PICKS]
    assert write_to_label(folder, rows, PICKS, settings, given or GivenLabels(ids, [None, None])) is None
    return Page(folder.to_label_page.read_text()).rows


def spreadsheet(folder: RoundFolder) -> list[list[str]]:
    return list(csv.reader(io.StringIO(folder.to_label_table.read_text("utf-8-sig"), newline="")))


@pytest.fixture
def folder(tmp_path: Path) -> RoundFolder:
    return RoundFolder(tmp_path, 1)


def test_texts(folder: RoundFolder) -> None:
    table = pa.table({"id": [10, 20, 30], "text": ["=1+1", "b", "c\n,d"], "label": ["u", "v", "w"]})
    rows = ask(folder, table, "text", columns=["label"])
    assert pq.read_table(folder.to_label).to_pydict() == {
        "id": [30, 10],
        "text": ["c\n,d", "=1+1"],
        "label": ["w", "u"],
    }
    assert spreadsheet(folder) == [
        ["id", "label", "text", "pool label", "file", "row"],
        ["30", "", "c\n,d", "w", "", "2"],
        ["10", "", "'=1+1", "u", "", "0"],
    ]
    assert (rows["ids"], rows["classes"], rows["given"]) == (["30", "10"], ["spam", "'=ham"], ["", ""])
    assert rows["texts"] == [{"name": "text", "values": ["c\n,d", "=1+1"]}, {"name": "label", "values": ["w", "u"]}]
    # As a spreadsheet would save it.
    filled = folder.to_label_table.read_text("utf-8-sig").replace("30,,", "30,'=ham,").replace("10,,", "10,(skip),")
    (folder.path / "labels.csv").write_text(filled)
    given = read_labels(folder.label_files(), [30, 10], Classes(["spam", "=ham"]))
    assert (given.labels, given.skipped) == (["=ham", None], {10})


def test_what_is_labelled_already_is_on_page_and_table(folder: RoundFolder) -> None:
    table = pa.table({"id": [10, 20, 30], "text": ["a", "b", "c"]})
    rows = ask(folder, table, "text", GivenLabels([30, 10], ["spam", None], frozenset([10])))
    assert rows["given"] == ["spam", "(skip)"]
    assert [row[1] for row in spreadsheet(folder)[1:]] == ["spam", "(skip)"]


def test_conversations_are_texts(folder: RoundFolder) -> None:
    chats = [[{"role": "user", "content": f"where is {k}"}, {"role": "assistant", "content": None}] for k in range(3)]
    rows = ask(folder, pa.table({"id": [10, 20, 30], "messages": chats}), "messages")
    words = [f"user: where is {k}\nassistant: " for k in (2, 0)]
    assert rows["texts"] == [{"name": "messages", "values": words}]
    assert [row[2] for row in spreadsheet(folder)[1:]] == words


def test_images_and_the_columns_beside_them(folder: RoundFolder) -> None:
    table = pa.table(
        {"id": [10, 20, 30], "image": [encoded((40, 30))] * 2 + [b"\x89PNG\r\n\x1a\nbroken"], "title": ["a", "b", "c"]}
    )
    rows = ask(folder, table, "image", columns=["title"])
    (pictures,) = rows["pictures"]
    assert pictures[0] == ""
    assert pictures[1].startswith("data:image/jpeg;base64,")
    assert spreadsheet(folder)[0] == ["id", "label", "title", "file", "row"]


def test_numbers_are_drawn_where_they_make_a_picture(folder: RoundFolder) -> None:
    pixels = np.random.default_rng(0).random((3, 64)).tolist()
    rows = ask(folder, pa.table({"id": [10, 20, 30], "image": pixels}), "image")
    assert all(text.startswith("data:image/png") for text in rows["pictures"][0])
    vectors = pa.table({"id": [10, 20, 30], "embedding": [[0.5] * 65] * 3, "text": ["a", "b", "c"]})
    assert ask(folder, vectors, "embedding")["pictures"] == []
    assert "There is nothing to look at" in Page(folder.to_label_page.read_text()).text
    assert ask(folder, vectors, "embedding", columns=["text"])["texts"] == [{"name": "text", "values": ["c", "a"]}]


@pytest.mark.parametrize("planes", [1, 3])
def test_a_picture_of_numbers_is_read_as_models_read_them(planes: int) -> None:
    values = np.arange(planes * 16, dtype=np.float64)
    content = picture_of_numbers(values.tolist())
    assert content is not None
    pixels = np.asarray(read_image(content), dtype=np.float64)
    expected = np.rint(values * 255 / values.max()).reshape(planes, 4, 4)
    assert (pixels[..., :planes] == np.moveaxis(expected, 0, 2)).all()
    assert picture_of_numbers([1.0] * 5) is None
    assert picture_of_numbers([float("nan")] * 4) is None


def test_without_the_libraries_of_pages_the_table_is_there(
    folder: RoundFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    settings = FineTuneSettings(data=DataSettings(raw_column="text", classes=["a"]), labels=LabelSettings("people"))
    rows = open_raw_rows(pa.table({"id": [10, 20, 30], "text": ["a", "b", "c"]}), id_column="id", columns=["text"])
    folder.create()
    problem = write_to_label(folder, rows, PICKS, settings, GivenLabels([30, 10], [None, None]))
    assert problem is not None
    assert problem.startswith("no to_label.html: ")
    assert len(spreadsheet(folder)) == 3
    assert not folder.to_label_page.exists()


def test_options_for_people_go_with_people() -> None:
    for make in (lambda: LabelSettings(columns=["text"]), lambda: LabelSettings(wait_for="any")):
        with pytest.raises(ConfigError, match=r"go with labels\.source=people"):
            make()
    with pytest.raises(ConfigError, match=r"labels\.wait_for='most'"):
        LabelSettings("people", wait_for="most")
