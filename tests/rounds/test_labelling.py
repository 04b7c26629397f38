"""Labels from a column, a function and people; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.core.trajectory import Pick
from ray_itl.errors import ConfigError, InputError
from ray_itl.rounds.labelling import obtain_labels
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import DataSettings, LabelSettings
from ray_itl.sources.base import RowSource
from ray_itl.sources.open import open_raw_rows

PICKS = [Pick(2, 30, 0.5), Pick(0, 10, 0.4)]
DATA = DataSettings(raw_column="text", label_column="kind")


def shout(ids: list[int], rows: pa.Table) -> list[str]:
    return [f"{text.upper()}-{row_id}" for row_id, text in zip(ids, rows.column("text").to_pylist(), strict=True)]


def too_few(ids: list[int], rows: pa.Table) -> list[str]:
    return [rows.column("text")[0].as_py()] if ids else []


@pytest.fixture
def rows() -> RowSource:
    table = pa.table({"id": [10, 20, 30], "text": ["a", "b", "c"], "kind": ["x", None, "z"]})
    return open_raw_rows(table, id_column="id", columns=["text", "kind"])


@pytest.fixture
def folder(tmp_path: Path) -> RoundFolder:
    folder = RoundFolder(tmp_path, 1)
    folder.create()
    return folder


def test_from_a_column_in_the_order_of_the_picks(rows: RowSource, folder: RoundFolder) -> None:
    assert obtain_labels(folder, rows, PICKS, DATA, LabelSettings()) == ["z", "x"]
    # labels.parquet is the truth from now on, whatever the pool says.
    pq.write_table(pa.table({"id": [10, 30], "label": ["new", "z"]}), folder.labels)
    assert obtain_labels(folder, rows, PICKS, DATA, LabelSettings()) == ["z", "new"]


def test_a_missing_label_in_the_column_is_named(rows: RowSource, folder: RoundFolder) -> None:
    with pytest.raises(InputError, match=r"column 'kind' of the pool has no label for ids \(20\)"):
        obtain_labels(folder, rows, [Pick(1, 20, 0.1)], DATA, LabelSettings())
    assert not folder.labels.exists()


def test_from_a_function(rows: RowSource, folder: RoundFolder) -> None:
    settings = LabelSettings("callable", f"{__name__}:shout")
    assert obtain_labels(folder, rows, PICKS, DATA, settings) == ["C-30", "A-10"]
    assert pq.read_table(folder.labels).to_pydict() == {"id": [30, 10], "label": ["C-30", "A-10"]}


def test_a_function_that_cannot_be_used(rows: RowSource, folder: RoundFolder) -> None:
    with pytest.raises(InputError, match="returned 1 labels for 2 rows"):
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings("callable", f"{__name__}:too_few"))
    with pytest.raises(ConfigError, match=r"labels\.function"):
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings("callable", f"{__name__}:missing"))
    with pytest.raises(ConfigError, match=r"labels\.function goes with labels\.source=callable"):
        LabelSettings("callable")


def test_people_get_the_rows_and_are_waited_for(rows: RowSource, folder: RoundFolder) -> None:
    settings = LabelSettings("people")
    assert obtain_labels(folder, rows, PICKS, DATA, settings) is None
    assert pq.read_table(folder.to_label).to_pydict() == {"id": [30, 10], "text": ["c", "a"]}
    pq.write_table(pa.table({"id": [10, 30], "label": [1, 2]}), folder.labels)
    assert obtain_labels(folder, rows, PICKS, DATA, settings) == [2, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [10], "label": ["x"]}, r"lacks ids \(30\)"),
        ({"id": [10, 30, 20], "label": ["x"] * 3}, r"not asked for \(20\)"),
        ({"id": [10, 30, 30], "label": ["x"] * 3}, r"repeats ids \(30\)"),
        ({"id": [10, 30], "label": ["x", None]}, r"no label for ids \(30\)"),
        ({"id": [10, 30], "kind": ["x", "y"]}, "no column label"),
    ],
)
def test_labels_of_people_are_checked(
    rows: RowSource, folder: RoundFolder, columns: dict[str, list], message: str
) -> None:
    pq.write_table(pa.table(columns), folder.labels)
    with pytest.raises(InputError, match=message) as caught:
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings("people"))
    assert "labels.parquet" in str(caught.value)
