"""Raw rows and subsets: the same rows, ids and places as the whole, in files and in memory."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.in_memory import TableRows, TableSource
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.parquet import ParquetRows
from ray_itl.sources.views import SubsetRows, SubsetSource
from tests.sources.helpers import open_pool, random_rows, read_range, write_pool

COUNTS = (10, 7, 13)
WANTED = np.array([28, 3, 4, 11, 0, 3])
KINDS = ("files", "table")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pool(tmp_path, COUNTS)
    return tmp_path


def raw_rows(kind: str, folder: Path, id_column: str = "id") -> ParquetRows | TableRows:
    pool = str(folder) if kind == "files" else pq.read_table(folder)
    rows = open_raw_rows(pool, id_column=id_column, columns=["text"])
    assert isinstance(rows, ParquetRows if kind == "files" else TableRows)
    return rows


def joined(batches) -> tuple[list, list]:
    """Return ids and texts of `(ids, columns)` batches."""
    ids, texts = [], []
    for batch_ids, batch in batches:
        assert len(batch_ids) == batch.num_rows > 0
        ids += batch_ids.tolist()
        texts += batch.column("text").to_pylist()
    return ids, texts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id_column", ["id", ""])
@pytest.mark.parametrize(("start", "stop"), [(0, 30), (5, 21), (10, 10)])
def test_raw_rows_of_a_range(folder: Path, kind: str, id_column: str, start: int, stop: int) -> None:
    expected = list(range(start, stop)), [f"row {i}" for i in range(start, stop)]
    assert joined(raw_rows(kind, folder, id_column).row_batches(start, stop, ["text"])) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id_column", ["id", ""])
def test_raw_rows_at_positions(folder: Path, kind: str, id_column: str) -> None:
    rows = raw_rows(kind, folder, id_column)
    wanted = np.unique(WANTED)
    assert joined(rows.row_batches_at(wanted, ["text"])) == (wanted.tolist(), [f"row {i}" for i in wanted])
    assert list(rows.row_batches_at(wanted[:0], ["text"])) == []
    with pytest.raises(IndexError):
        list(rows.row_batches_at(np.array([30]), ["text"]))


def test_raw_rows_need_no_embeddings_but_the_columns_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["a", "b"], "text": ["x", "y"]}), tmp_path / "a.parquet")
    rows = open_raw_rows(tmp_path, id_column="name", columns=["text"])
    assert joined(rows.row_batches(0, 2, ["text"])) == (["a", "b"], ["x", "y"])
    with pytest.raises(InputError, match=r"a\.parquet.*no column 'txt'.*name, text"):
        open_raw_rows(tmp_path, id_column="name", columns=["txt"])
    with pytest.raises(InputError, match="no column 'txt'"):
        open_raw_rows(pq.read_table(tmp_path), id_column="name", columns=["txt"])


def test_a_filtered_dataset_is_read_into_memory(folder: Path) -> None:
    whole = pads.dataset(folder)
    some = whole.filter(pads.field("id") >= 25)
    assert isinstance(open_raw_rows(whole, id_column="id", columns=["text"]), ParquetRows)
    assert joined(open_raw_rows(some, id_column="id", columns=["text"]).row_batches(0, 5, ["text"]))[0] == [
        *range(25, 30)
    ]


def test_an_id_that_is_null_is_named_by_its_row(tmp_path: Path) -> None:
    table = pa.table({"id": [*range(20), None], "text": [str(i) for i in range(21)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=8)
    rows = open_raw_rows(tmp_path, id_column="id", columns=["text"])
    for batches in (rows.row_batches(3, 21, ["text"]), rows.row_batches_at(np.array([1, 20]), ["text"])):
        with pytest.raises(InputError, match=r"a\.parquet.*row 20 .*null"):
            list(batches)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subset_of_raw_rows(folder: Path, kind: str) -> None:
    base = raw_rows(kind, folder)
    rows = pickle.loads(pickle.dumps(SubsetRows(base, WANTED)))
    wanted = [0, 3, 4, 11, 28]
    assert (rows.num_rows, rows.id_kind) == (5, "int")
    assert joined(rows.row_batches(1, 4, ["text"])) == ([3, 4, 11], ["row 3", "row 4", "row 11"])
    assert joined(SubsetRows(rows, np.array([4, 0])).row_batches(0, 2, ["text"]))[0] == [0, 28]
    assert rows.base_positions(np.array([4, 0])).tolist() == [28, 0]
    assert rows.take(np.array([4, 0, 4]), ["text"]).column(0).to_pylist() == ["row 28", "row 0", "row 28"]
    places, expected = rows.locate(np.arange(5)), base.locate(np.array(wanted))
    assert (places[0], places[1].tolist()) == (expected[0], expected[1].tolist())


@pytest.mark.parametrize("kind", ["files", "table", "array", "array with ids"])
def test_a_subset_of_embedded_rows(folder: Path, kind: str) -> None:
    rows = random_rows(sum(COUNTS))
    base = {
        "files": lambda: open_pool(folder),
        "table": lambda: TableSource(pq.read_table(folder), "id", "embedding"),
        "array": lambda: ArraySource(rows),
        "array with ids": lambda: ArraySource(rows, np.arange(30)),
    }[kind]()
    subset = pickle.loads(pickle.dumps(SubsetSource(base, WANTED)))
    wanted = [0, 3, 4, 11, 28]
    assert (subset.num_rows, subset.dim, subset.dtype) == (5, base.dim, base.dtype)
    ids, found = read_range(subset, 1, 5)
    assert ids == wanted[1:]
    assert np.array_equal(found, rows[wanted[1:]])
    assert np.array_equal(subset.embeddings(np.array([2, 0])), rows[[4, 0]])
    assert read_range(SubsetSource(subset, np.array([3])), 0, 1)[0] == [11]


def test_a_bad_row_of_a_subset_is_named() -> None:
    rows = random_rows(12)
    rows[9, 1] = np.nan
    for source in (ArraySource(rows), SubsetSource(ArraySource(rows), np.arange(5, 12))):
        with pytest.raises(InputError, match="row 9 "):
            list(source.batches_at(np.array([source.num_rows - 3])))


@pytest.mark.parametrize("kind", [SubsetRows, SubsetSource])
def test_subsets_that_cannot_be(folder: Path, kind: type) -> None:
    base = open_pool(folder)
    with pytest.raises(InputError, match="no row is left"):
        kind(base, np.empty(0, np.int64))
    with pytest.raises(IndexError):
        kind(base, np.array([30]))
    with pytest.raises(IndexError):
        kind(base, np.array([3])).locate(np.array([1]))
