"""Results in a notebook: a small table, with nothing of the data taken for markup."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from packaging.version import Version

from ray_itl import Selection, select
from ray_itl.core.result import GreedyStats
from ray_itl.rounds.result import FineTuning
from tests.helpers import clustered, table_of

SCRIPT = "<script>alert(1)</script>"


class Page:
    """What a table shows; reading it as XML proves that every element is closed."""

    def __init__(self, shown: str) -> None:
        root = ElementTree.fromstring(shown)
        self.tags = {element.tag for element in root.iter()}
        self.names = [cell.text for cell in root.iter("th")]
        self._rows = [[cell.text or "" for cell in row.iter("td")] for row in root.iter("tr")][1:]

    def cells(self, name: str) -> list[str]:
        return [row[self.names.index(name)] for row in self._rows]


def test_a_selection_shows_its_totals_and_first_picks() -> None:
    selection = select(table_of(clustered(80, seed=1)), clustered(9, seed=2), 25, columns=["text"])
    shown = selection._repr_html_()
    assert repr(selection) in shown
    page = Page(shown)
    assert page.cells("id") == [str(row_id) for row_id in selection.ids[:10]]
    assert page.cells("text") == [f"text {row_id}" for row_id in selection.ids[:10]]
    assert "15 more picks in .table" in shown


def test_hostile_names_and_values_are_text() -> None:
    many = {f"c{k}": [b"\x00" * 2048] for k in range(9)}
    columns = {"rank": [1], "id": [SCRIPT], "gain": [0.5], SCRIPT: ["x" * 500], "file": [SCRIPT], "row": [0], **many}
    selection = Selection(pa.table(columns), "nats", np.array([1.0, 0.5]), GreedyStats(), {}, Path(SCRIPT))
    shown = selection._repr_html_()
    page = Page(shown)
    assert page.tags == {"div", "p", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.cells("id") == [SCRIPT]
    assert page.cells(SCRIPT) == ["x" * 59 + "…"]
    assert page.cells("c0") == ["2,048 bytes"]
    assert "4 more columns in .table" in shown


def test_numbers_are_rounded_and_lists_short() -> None:
    columns = {"rank": [1], "id": [7], "gain": [0.123456789], "near": [[0.98765432, 1.0]], "names": [["<a>", "b" * 99]]}
    table = pa.table(columns | {"file": [""], "row": [0]})
    page = Page(Selection(table, "nats", np.array([1.0, 0.5]), GreedyStats())._repr_html_())
    assert [page.cells(name)[0] for name in ("id", "gain", "near")] == ["7", "0.1235", "[0.9877, 1]"]
    assert page.cells("names")[0] == "[<a>, " + "b" * 53 + "…"


def test_plots_show_in_notebooks() -> None:
    """What plotly asks for before it shows a figure there."""
    nbformat = pytest.importorskip("nbformat")
    assert Version(nbformat.__version__) >= Version("4.2.0")


def test_no_picks_show_as_an_empty_table() -> None:
    table = pa.table({"rank": [], "id": [], "gain": np.array([]), "file": [], "row": []})
    page = Page(Selection(table, "nats", np.ones(1), GreedyStats())._repr_html_())
    assert page.cells("id") == []


def test_a_fine_tuning_shows_its_last_rounds() -> None:
    curves = pa.table({"round": range(13), "heldout.accuracy": np.arange(13) / 13, "seconds.train": [1.0] * 13})
    result = FineTuning("finished", curves, Path("/r"), None)
    page = Page(result._repr_html_())
    assert page.cells("round") == [str(k) for k in range(3, 13)]
    assert repr(result) == "FineTuning(finished, 12 rounds, path='/r')"
    assert page.names == ["round", "heldout.accuracy"]
