"""Rows without an id column are named by their files and numbers: the same from run to run, wherever a shard begins."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.lookup import ids_at, positions_of
from ray_itl.sources.open import open_raw_rows, open_source
from tests.sources.helpers import embedding_array, random_rows


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))


def write_pool(folder: Path, with_ids: tuple[str, ...] = ()) -> Path:
    folder.mkdir(exist_ok=True)
    for name, num_rows in (("a.parquet", 7), ("b c.parquet", 5)):
        table = pa.table({"embedding": embedding_array(random_rows(num_rows, 2), "fixed"), "n": np.arange(num_rows)})
        if name in with_ids:
            table = table.append_column("id", pa.array([f"{name} {i}" for i in range(num_rows)]))
        pq.write_table(table, folder / name, row_group_size=3)
    return folder


NAMES = [*(f"a.parquet:{i}" for i in range(7)), *(f"b c.parquet:{i}" for i in range(5))]


@pytest.mark.parametrize("asked", [None, "id"])
def test_names_are_those_of_file_and_row_in_whatever_parts_they_are_read(tmp_path: Path, asked: str | None) -> None:
    source = open_source(str(write_pool(tmp_path / "pool")), id_column=asked)
    assert source.id_kind == "string"
    for start in range(12):
        found = [ids for ids, _ in source.batches(start, 12)]
        assert np.concatenate(found).tolist() == NAMES[start:]
    positions = np.array([11, 0, 6, 7, 0])
    assert ids_at(source, positions).tolist() == [NAMES[i] for i in positions]
    assert positions_of(source, pa.array(["b c.parquet:4", "a.parquet:0"])).tolist() == [0, 11]
    raw = open_raw_rows(str(tmp_path / "pool"), id_column=asked, columns=["n"])
    assert np.concatenate([ids for ids, _ in raw.row_batches(0, 12, ["n"])]).tolist() == NAMES


def test_files_that_come_later_leave_the_names_of_the_others(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "pool")
    pq.write_table(pq.read_table(folder / "a.parquet"), folder / "0.parquet")
    source = open_source(str(folder), id_column=None)
    assert ids_at(source, np.arange(7, 19)).tolist() == NAMES


def test_rows_that_meet_a_condition_keep_their_names(tmp_path: Path) -> None:
    source = open_source(str(write_pool(tmp_path / "pool")), id_column=None, condition="n >= 4")
    names = ["a.parquet:4", "a.parquet:5", "a.parquet:6", "b c.parquet:4"]
    assert np.concatenate([ids for ids, _ in source.batches(0, 4)]).tolist() == names


def test_ids_in_some_files_alone_are_refused(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "pool", with_ids=("b c.parquet",))
    with pytest.raises(InputError, match=r"'a.parquet' has no column 'id', which 'b c.parquet' has: .*id_column=null"):
        open_source(str(folder), id_column="id")
    assert open_source(str(folder), id_column=None).num_rows == 12
    folder = write_pool(tmp_path / "other", with_ids=("a.parquet",))
    with pytest.raises(InputError, match=r"'b c.parquet' has no column 'id'"):
        open_source(str(folder), id_column="id")


def test_rows_in_memory_are_named_by_their_numbers(tmp_path: Path) -> None:
    table = pq.read_table(write_pool(tmp_path / "pool") / "a.parquet")
    for asked in (None, "", "id"):
        assert ids_at(open_source(table, id_column=asked), np.array([3, 0])).tolist() == [3, 0]
    dataset = pads.dataset(tmp_path / "pool")
    for asked in (None, "id"):
        assert ids_at(open_source(dataset, id_column=asked), np.arange(12)).tolist() == NAMES


def test_a_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name"):
        open_source(str(write_pool(tmp_path / "pool")), id_column="name")


def test_rows_of_json_lines_are_named_too(tmp_path: Path) -> None:
    rows = [{"embedding": row} for row in random_rows(4, 2).tolist()]
    (tmp_path / "notes.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = open_source(str(tmp_path / "notes.jsonl"), id_column="id")
    assert ids_at(source, np.arange(4)).tolist() == [f"notes.jsonl:{i}" for i in range(4)]
