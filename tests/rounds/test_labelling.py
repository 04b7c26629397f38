"""Labels from a column, a function and people; and what is refused."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.core.trajectory import Pick
from ray_itl.errors import ConfigError, InputError, LabelError
from ray_itl.rounds.group_settings import DataSettings, LabelSettings
from ray_itl.rounds.labelling import obtain_labels
from ray_itl.rounds.round_folder import RoundFolder
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
    assert obtain_labels(folder, rows, PICKS, DATA, LabelSettings()).labels == ["z", "x"]
    # labels.parquet is the truth from now on, whatever the pool says.
    pq.write_table(pa.table({"id": [10, 30], "label": ["new", "z"]}), folder.labels)
    assert obtain_labels(folder, rows, PICKS, DATA, LabelSettings()).labels == ["z", "new"]


def test_a_missing_label_in_the_column_is_named(rows: RowSource, folder: RoundFolder) -> None:
    with pytest.raises(InputError, match=r"column 'kind' of the pool has no label for ids \(20\)"):
        obtain_labels(folder, rows, [Pick(1, 20, 0.1)], DATA, LabelSettings())
    assert not folder.labels.exists()


def test_from_a_function(rows: RowSource, folder: RoundFolder) -> None:
    settings = LabelSettings("callable", f"{__name__}:shout")
    assert obtain_labels(folder, rows, PICKS, DATA, settings).labels == ["C-30", "A-10"]
    assert pq.read_table(folder.labels).to_pydict() == {"id": [30, 10], "label": ["C-30", "A-10"]}


def test_a_function_that_cannot_be_used(rows: RowSource, folder: RoundFolder) -> None:
    with pytest.raises(InputError, match="returned 1 labels for 2 rows"):
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings("callable", f"{__name__}:too_few"))
    with pytest.raises(ConfigError, match=r"labels\.function"):
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings("callable", f"{__name__}:missing"))
    with pytest.raises(ConfigError, match=r"labels\.function goes with labels\.source=callable"):
        LabelSettings("callable")


def down(ids: list[int], rows: pa.Table) -> list[str]:
    raise ConnectionError(f"labelling service: 503 for {len(ids)} of {len(rows.column_names)}")


def down_midway(ids: list[int], rows: pa.Table) -> Iterator[str]:
    yield rows.column("text")[0].as_py()
    raise TimeoutError(f"after {ids[0]}")


def answer(value: Any) -> str:
    """Name a function that returns `value` whatever it is asked."""
    module = types.ModuleType("answers_of_a_test")
    vars(module)["it"] = lambda _ids, _rows: value
    sys.modules[module.__name__] = module
    return f"{module.__name__}:it"


@pytest.mark.parametrize(
    ("name", "cause"), [("down", "ConnectionError: .*503 for 2 of 1"), ("down_midway", "TimeoutError: after 30")]
)
def test_a_function_that_fails_is_named_with_the_round_and_the_cause(
    rows: RowSource, folder: RoundFolder, name: str, cause: str
) -> None:
    settings = LabelSettings("callable", f"{__name__}:{name}")
    with pytest.raises(LabelError, match=rf"labels\.function={__name__}:{name} in round 1 failed \({cause}\)"):
        obtain_labels(folder, rows, PICKS, DATA, settings)
    assert not folder.labels.exists()


@pytest.mark.parametrize(
    "labels",
    [
        ["z", "x"],
        ("z", "x"),
        np.array(["z", "x"]),
        pa.array(["z", "x"]),
        pa.chunked_array([["z"], ["x"]]),
        pd.Series(["z", "x"]),
        pd.Series(["z", "x"], index=[30, 10]),
        iter(["z", "x"]),
        [pa.scalar("z"), np.str_("x")],
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_of_a_function_are_any_sequence(rows: RowSource, folder: RoundFolder, labels: Any) -> None:
    assert obtain_labels(folder, rows, PICKS, DATA, LabelSettings("callable", answer(labels))).labels == ["z", "x"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "returned a NoneType: return a list"),
        ({30: "z", 10: "x"}, "returned a dict"),
        ({"z", "x"}, "returned a set"),
        ("zx", "returned a str"),
        (7, "returned a int"),
        (pa.table({"label": ["z", "x"]}), "returned a Table"),
        (pd.DataFrame({"label": ["z", "x"]}), "returned a DataFrame"),
        (pd.Series(["x", "z"], index=[10, 30]), "returned a Series whose index"),
        (["z"], "returned 1 labels for 2 rows"),
        (["z"] * 3, "returned 3 or more labels for 2 rows"),
        (itertools.repeat("z"), "returned 3 or more labels for 2 rows"),
        ([None, None], r"row 0 .*, id 30: there is no label \(1 more rows are no better\)"),
        (["z", float("nan")], "row 1 .*, id 10: nan is no label"),
        (np.eye(2), r"id 30: \[1\.0, 0\.0\] is a list"),
        (["z", 1], "of one type"),
        ([2**80, 1], "of one type"),
    ],
)
def test_nonsense_of_a_function_is_named(rows: RowSource, folder: RoundFolder, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^labels\.function=answers_of_a_test:it in round 1.*{message}"):
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings("callable", answer(labels)))
    assert not folder.labels.exists()


@pytest.mark.parametrize("source", ["column", "callable", "people"])
def test_labels_that_look_like_a_class_are_refused_wherever_they_come_from(
    rows: RowSource, folder: RoundFolder, source: str
) -> None:
    data = DataSettings(raw_column="text", label_column="kind", classes=["Z", "x"])
    settings = LabelSettings(source, answer(["z", "x"]) if source == "callable" else None)
    if source == "people":
        pq.write_table(pa.table({"id": [10, 30], "label": ["x", "z"]}), folder.labels)
    row = 1 if source == "people" else 2 if source == "column" else 0  # of the file, of the pool, of the answer
    with pytest.raises(InputError, match=rf"row {row} .*, id 30: 'z' is not in data\.classes; did you mean 'Z'\?"):
        obtain_labels(folder, rows, [Pick(2, 30, 0.5), Pick(0, 10, 0.4)], data, settings)


def test_labels_that_a_column_gave_must_stay_whole(rows: RowSource, folder: RoundFolder) -> None:
    obtain_labels(folder, rows, PICKS, DATA, LabelSettings())
    pq.write_table(pa.table({"id": [10], "label": ["x"]}), folder.labels)
    with pytest.raises(InputError, match=r"labels\.parquet has no label for ids \(30\): restore it"):
        obtain_labels(folder, rows, PICKS, DATA, LabelSettings())
