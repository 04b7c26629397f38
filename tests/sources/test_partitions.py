"""Folders like lang=en are columns, as they are to pyarrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.open import open_raw_rows, open_source
from ray_itl.sources.parquet import ParquetSource
from ray_itl.sources.partitions import hive_columns
from tests.sources.helpers import pool_table, random_rows

ROWS = random_rows(12)


def write_folders(pool: Path, folders: Sequence[str], **columns: list[Any]) -> None:
    """Three rows in a file of each folder, ids counting on."""
    for number, folder in enumerate(folders):
        (pool / folder).mkdir(parents=True)
        table = pool_table(ROWS[number * 3 : number * 3 + 3], number * 3)
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        pq.write_table(table, pool / folder / f"{number}.parquet")


FOLDERS = ("lang=en/day=3", "lang=de/day=12", "lang=a%20b%2Fc/day=-7", "lang=__HIVE_DEFAULT_PARTITION__/day=0")


def by_id(source: Any, columns: Sequence[str]) -> dict[int, tuple]:
    positions = np.arange(source.num_rows)
    table = source.take(positions, columns)
    ids = [int(i) for ids, _ in source.row_batches(0, source.num_rows, []) for i in ids]
    return dict(zip(ids, zip(*(table.column(name).to_pylist() for name in columns), strict=True), strict=True))


def test_columns_of_folders_are_those_of_pyarrow(tmp_path: Path) -> None:
    write_folders(tmp_path, FOLDERS)
    dataset = pads.dataset(tmp_path, partitioning="hive")
    expected = {
        row["id"]: (row["lang"], row["day"], row["text"])
        for row in dataset.to_table(columns=["id", "lang", "day", "text"]).to_pylist()
    }
    assert expected[6] == ("a b/c", -7, "row 6")
    columns = ["lang", "day", "text"]
    pools = (tmp_path, f"{tmp_path}/lang=*/**/*.parquet", list(tmp_path.glob("*/*/*.parquet")), dataset)
    for pool in pools:
        source = open_source(pool, id_column="id", columns=columns)
        assert isinstance(source, ParquetSource)
        assert by_id(source, columns) == expected
        assert by_id(open_raw_rows(pool, id_column="id", columns=columns), columns) == expected
        assert source.take(np.arange(2), columns).schema.types == [pa.string(), pa.int32(), pa.string()]


def test_a_condition_on_folders_reads_as_one_on_columns(tmp_path: Path) -> None:
    write_folders(tmp_path, FOLDERS)
    for pool in (tmp_path, pads.dataset(tmp_path, partitioning="hive")):
        for condition, ids in (
            ("lang = 'de'", [3, 4, 5]),
            ("day < 5 and id <> 1", [0, 2, 6, 7, 8, 9, 10, 11]),
            ("lang is null", [9, 10, 11]),
        ):
            source = open_source(pool, id_column="id", condition=condition)
            found = sorted(int(i) for ids, _ in source.batches(0, source.num_rows) for i in ids)
            assert found == ids


def test_directory_partitioning_of_a_dataset(tmp_path: Path) -> None:
    write_folders(tmp_path, ["en/1", "de/2"])
    kinds = pa.schema([("lang", pa.string()), ("year", pa.int16())])
    dataset = pads.dataset(tmp_path, partitioning=pads.partitioning(kinds))
    source = open_source(dataset, id_column="id", columns=["lang", "year"])
    assert by_id(source, ["lang", "year"])[4] == ("de", 2)
    with pytest.raises(InputError, match=r"no column 'lang'"):
        open_source(tmp_path, id_column="id", columns=["lang"])
    with pytest.raises(InputError, match=r"no column 'lang'"):
        open_source(pads.dataset(tmp_path), id_column="id", columns=["lang"])


def test_dictionaries_of_a_dataset(tmp_path: Path) -> None:
    write_folders(tmp_path, ["lang=en", "lang=de"])
    dataset = pads.dataset(tmp_path, partitioning=pads.HivePartitioning.discover(infer_dictionary=True))
    assert pa.types.is_dictionary(dataset.schema.field("lang").type)
    source = open_source(dataset, id_column="id", columns=["lang"])
    assert by_id(source, ["lang"])[5] == ("de",)


@pytest.mark.parametrize("path", ["pool", "./pool", "../there/pool"])
def test_datasets_of_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    write_folders(tmp_path / "there" / "pool", ["lang=en", "lang=de"])
    monkeypatch.chdir(tmp_path / "there")
    source = open_source(pads.dataset(path, partitioning="hive"), id_column="id", columns=["lang"])
    assert by_id(source, ["lang"])[4] == ("de",)


def test_a_folder_gives_ids(tmp_path: Path) -> None:
    for k in (7, 5):
        (tmp_path / f"key={k}").mkdir()
        pq.write_table(pool_table(ROWS[k : k + 1]).drop_columns("id"), tmp_path / f"key={k}" / "a.parquet")
    source = open_source(tmp_path, id_column="key")
    (ids, rows), *rest = list(source.batches(0, 2))
    (more, others) = rest[0] if rest else (ids[1:], rows[1:])
    assert [*ids[:1], *more] == [5, 7]
    np.testing.assert_array_equal(np.concatenate([rows[:1], others]), ROWS[[5, 7]])


def test_a_column_in_files_and_folders_has_the_value_of_the_folder(tmp_path: Path) -> None:
    """As in pyarrow, in the type of the files, which pyarrow would refuse where it is not that of the folder."""
    write_folders(tmp_path, ["lang=en", "lang=de"], lang=["x", "y", "z"])
    assert by_id(open_source(tmp_path, id_column="id", columns=["lang"]), ["lang"])[4] == ("de",)
    write_folders(tmp_path / "numbers", ["n=07", "n=3"], n=["x", "y", "z"])
    assert by_id(open_source(tmp_path / "numbers", id_column="id", columns=["n"]), ["n"])[1] == ("07",)
    write_folders(tmp_path / "wide", ["n=7", "n=3"], n=[2**40, 1, 2])
    assert by_id(open_source(tmp_path / "wide", id_column="id", columns=["n"]), ["n"])[1] == (7,)
    write_folders(tmp_path / "clash", ["n=a", "n=b"], n=[1, 2, 3])
    with pytest.raises(InputError, match=r"its folder says that column 'n' is 'a', which is no int64"):
        open_source(tmp_path / "clash", id_column="id", columns=["n"])


def test_folders_named_like_ids_or_embeddings_change_nothing(tmp_path: Path) -> None:
    write_folders(tmp_path, ["id=1/embedding=clip", "id=2/embedding=clip"])
    source = open_source(tmp_path, id_column="id")
    np.testing.assert_array_equal(source.embeddings(np.arange(6)), ROWS[:6])
    assert list(by_id(source, ["text"])) == list(range(6))


def test_the_fingerprint_is_that_of_the_files_but_for_what_a_dataset_adds(tmp_path: Path) -> None:
    write_folders(tmp_path, ["lang=en", "lang=de"])

    def fingerprint(pool: Any, columns: Sequence[str] = ()) -> str:
        source = open_source(pool, id_column="id", columns=columns)
        assert isinstance(source, ParquetSource)
        return source.manifest.fingerprint

    plain = fingerprint(tmp_path)
    hive = pads.dataset(tmp_path, partitioning="hive")
    own = pads.dataset(tmp_path, partitioning=pads.partitioning(pa.schema([("place", pa.string())])))
    assert fingerprint(tmp_path, ["lang"]) == plain == fingerprint(hive) == fingerprint(own)
    assert len({plain, fingerprint(hive, ["lang"]), fingerprint(own, ["place"])}) == 3


@pytest.mark.parametrize(
    ("paths", "types"),
    [
        (["a.parquet"], {}),
        (["k=1/a", "k=2/a"], {"k": pa.int32()}),
        (["k=1/a", "k=x/a"], {"k": pa.string()}),
        (["k=1/a", "k=9999999999/a"], {"k": pa.string()}),
        (["k=/a"], {"k": pa.string()}),
        (["k=__HIVE_DEFAULT_PARTITION__/a"], {"k": pa.string()}),
        (["a%3Db=1/a"], {"a=b": pa.int32()}),
        (["k=1/k=2/a"], {"k": pa.int32()}),
        (["k=a=b/a"], {"k": pa.string()}),
    ],
)
def test_types_of_columns_of_folders(paths: list[str], types: dict[str, pa.DataType]) -> None:
    assert hive_columns(paths).types == types
