"""Rows held in memory: what they answer is what their base answers, which is read once."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import RowSource
from ray_itl.sources.held import HeldRows
from ray_itl.sources.ids import IdKind
from ray_itl.sources.open import open_raw_rows
from tests.sources.helpers import write_pool

NUM_ROWS, PLENTY = 30, 1 << 20


class Counted:
    """A source that counts how often it is asked for rows."""

    def __init__(self, base: RowSource) -> None:
        self.num_rows: int = base.num_rows
        self.id_kind: IdKind = base.id_kind
        self._base, self.asked = base, 0

    def row_batches(
        self, start: int, stop: int, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        self.asked += 1
        return self._base.row_batches(start, stop, columns, bad)

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str], bad: BadRows | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        self.asked += 1
        return self._base.row_batches_at(positions, columns, bad)

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        self.asked += 1
        return self._base.take(positions, columns)

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        return self._base.locate(positions)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    write_pool(folder, (10, 7, 13))
    return folder


def base_of(folder: Path, id_column: str | None = "id") -> Counted:
    return Counted(open_raw_rows(folder, id_column=id_column, columns=["text"]))


def joined(batches: Any) -> tuple[list, pa.Table]:
    found = list(batches)
    return [row for ids, _ in found for row in ids.tolist()], pa.Table.from_batches([batch for _, batch in found])


@pytest.mark.parametrize("id_column", ["id", "", None, "text"])
@given(data=st.data())
def test_answers_are_those_of_the_base(folder: Path, id_column: str | None, data: st.DataObject) -> None:
    base = base_of(folder, id_column)
    held = HeldRows(base, ["text", "id"], PLENTY)
    columns = data.draw(st.sampled_from([["text"], ["id", "text"]]))
    start = data.draw(st.integers(0, NUM_ROWS - 1))
    stop = data.draw(st.integers(start + 1, NUM_ROWS))
    some = np.array(sorted(data.draw(st.sets(st.integers(0, NUM_ROWS - 1), min_size=1))))
    again = np.array(data.draw(st.lists(st.integers(0, NUM_ROWS - 1))), dtype=np.int64)
    assert joined(held.row_batches(start, stop, columns)) == joined(base.row_batches(start, stop, columns))
    assert joined(held.row_batches_at(some, columns)) == joined(base.row_batches_at(some, columns))
    assert held.take(again, columns) == base.take(again, columns)
    files, rows = held.locate(some)
    assert (files, rows.tolist()) == (base.locate(some)[0], base.locate(some)[1].tolist())


def test_the_base_is_read_once(folder: Path) -> None:
    base = base_of(folder)
    held = HeldRows(base, ["text"], PLENTY)
    assert base.asked == 0
    for row in range(NUM_ROWS):
        held.take(np.array([row]), ["text"])
        joined(held.row_batches_at(np.array([row]), ["text"]))
    assert base.asked == 1


def test_ids_alone_read_no_column(folder: Path) -> None:
    base = base_of(folder)
    held = HeldRows(base, ["text"], PLENTY)
    for _ in range(3):
        assert [row for ids, _ in held.row_batches(0, NUM_ROWS, []) for row in ids.tolist()] == list(range(NUM_ROWS))
    assert base.asked == 3  # of which none was for the text, that would have answered the others


@pytest.mark.parametrize(("columns", "max_bytes"), [(["text"], 100), (["id"], PLENTY)])
def test_what_is_not_held_is_asked_of_the_base(folder: Path, columns: list[str], max_bytes: int) -> None:
    base = base_of(folder)
    held = HeldRows(base, columns, max_bytes)
    for row in range(NUM_ROWS):
        assert held.take(np.array([row]), ["text"]).column("text").to_pylist() == [f"row {row}"]
    assert base.asked >= NUM_ROWS


def test_ids_that_cannot_be_used_are_told_as_the_base_does(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, None, 3], "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    held = HeldRows(open_raw_rows(tmp_path, id_column="id", columns=["text"]), ["text"], PLENTY)
    with pytest.raises(InputError, match=r"a\.parquet.*row 1"):
        list(held.row_batches(0, 3, ["text"]))


def test_what_is_held_does_not_travel(folder: Path) -> None:
    held = HeldRows(open_raw_rows(folder, id_column="id", columns=["text"]), ["text"], PLENTY)
    before = len(pickle.dumps(held))
    joined(held.row_batches(0, NUM_ROWS, ["text"]))
    assert len(pickle.dumps(held)) == before
    assert joined(pickle.loads(pickle.dumps(held)).row_batches(0, 3, ["text"])) == joined(
        held.row_batches(0, 3, ["text"])
    )
