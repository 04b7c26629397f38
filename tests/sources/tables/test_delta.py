"""Delta tables as other engines write them: read right, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.tables.listing import list_pool
from tests.sources.tables.test_tables import ids_of, manifest_of
from tests.sources.tables.writers import DELTA, HandMadeDelta, deletion_vector, rows

NAMED = {"delta.columnMapping.mode": "name"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t"


def write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def partitions(folder: Path) -> dict[str, dict[str, Any]]:
    found = list_pool([str(folder)]).given
    return {path: {name: value.as_py() for name, value in values.items()} for path, values in found.items()}


def test_values_of_partitions_are_those_of_the_log(folder: Path) -> None:
    DELTA.append(folder, rows(0, 9), partition="lang")
    assert any("%20" in path.name for path in folder.iterdir()), "a name with a blank is meant to be escaped"
    assert ids_of(folder) == list(range(9))
    assert sorted(value["lang"] for value in partitions(folder).values()) == ["a b/ü", "de", "en"]


def test_folders_may_have_any_names_and_values_may_be_missing(folder: Path) -> None:
    made = HandMadeDelta(folder, ["lang"])
    write(folder / "x1" / "a.parquet", rows(0, 5).drop(["lang"]))
    write(folder / "x2" / "b b%.parquet", rows(5, 8).drop(["lang"]))
    made.commit(1, [made.add("x1/a.parquet", {"lang": "en"}), made.add("x2/b%20b%25.parquet", {"lang": None})])
    assert ids_of(folder) == list(range(8))
    assert partitions(folder) == {"x1/a.parquet": {"lang": "en"}, "x2/b b%.parquet": {"lang": None}}


def test_what_was_removed_or_never_committed_is_not_there(folder: Path) -> None:
    made = HandMadeDelta(folder)
    for name, table in (("a", rows(0, 5)), ("b", rows(5, 8)), ("never", rows(50, 60))):
        write(folder / f"{name}.parquet", table)
    made.commit(1, [made.add("a.parquet"), made.add("b.parquet")])
    assert ids_of(folder) == list(range(8))
    made.commit(2, [{"remove": {"path": "a.parquet", "deletionTimestamp": 1, "dataChange": True}}])
    assert ids_of(folder) == [5, 6, 7]
    assert ids_of(folder, version=1) == list(range(8))


def test_deletion_vectors_are_refused_where_there_are_any(folder: Path) -> None:
    features = ["deletionVectors"]
    made = HandMadeDelta(
        folder, minReaderVersion=3, minWriterVersion=7, readerFeatures=features, writerFeatures=features
    )
    write(folder / "a.parquet", rows(0, 30))
    made.commit(1, [made.add("a.parquet")])
    assert ids_of(folder) == list(range(30))
    vector = deletion_vector([3, 4, 7, 11, 18, 29])
    made.commit(2, [made.add("a.parquet", deletionVector=vector, stats='{"numRecords": 30}')])
    with pytest.raises(InputError, match=r"has deletion vectors, which mark deleted rows in 1 of its files: .*PURGE"):
        manifest_of(folder)


def test_mapped_columns_are_refused_where_files_have_other_names(folder: Path) -> None:
    protocol: dict[str, Any] = {"minReaderVersion": 2, "minWriterVersion": 5}
    numbers = {
        name: {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": name}
        for number, name in enumerate(("id", "embedding", "lang"), 1)
    }
    made = HandMadeDelta(folder / "same", configuration=NAMED, columns=numbers, **protocol)
    write(folder / "same" / "a.parquet", rows(0, 5))
    made.commit(1, [made.add("a.parquet")])
    assert ids_of(folder / "same") == list(range(5))
    numbers["lang"]["delta.columnMapping.physicalName"] = "language"
    HandMadeDelta(folder / "other", configuration=NAMED, columns=numbers, **protocol)
    with pytest.raises(InputError, match="names columns otherwise than its files do"):
        manifest_of(folder / "other")


def test_features_that_are_not_known_are_refused(folder: Path) -> None:
    names = ["someFutureFeature"]
    HandMadeDelta(folder, minReaderVersion=3, minWriterVersion=7, readerFeatures=names, writerFeatures=names)
    with pytest.raises(InputError, match=r"/t' .*(someFutureFeature|SomeFutureFeature)") as caught:
        manifest_of(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["s3://bucket/a.parquet", "file:///data/a.parquet", "/data/a.parquet"])
def test_files_outside_of_the_folder_are_refused(folder: Path, path: str) -> None:
    made = HandMadeDelta(folder)
    made.commit(1, [made.add(path)])
    with pytest.raises(InputError, match="has files outside of its folder"):
        manifest_of(folder)


def test_a_log_without_a_beginning_is_refused(folder: Path) -> None:
    made = HandMadeDelta(folder)
    write(folder / "a.parquet", rows(0, 5))
    made.commit(1, [made.add("a.parquet")])
    (folder / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        manifest_of(folder)
