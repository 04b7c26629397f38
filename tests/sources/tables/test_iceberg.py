"""Iceberg tables of other engines and of any age: read right, or refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import DataScan

from ray_itl.errors import InputError
from ray_itl.sources.tables.listing import list_pool
from tests.sources.tables.test_tables import ids_of, manifest_of
from tests.sources.tables.writers import ICEBERG, iceberg, newest_metadata, rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "t"
    ICEBERG.append(folder, rows(0, 10), partition="lang")
    return folder


def test_values_of_partitions_are_those_of_the_metadata(folder: Path) -> None:
    found = list_pool([str(folder)]).given
    assert sorted(values["lang"].as_py() for values in found.values()) == ["a b/ü", "de", "en"]


def test_any_metadata_file_may_be_named(folder: Path) -> None:
    before = newest_metadata(folder)
    ICEBERG.append(folder, rows(10, 20))
    ICEBERG.delete(folder, "id < 3")
    assert ids_of(folder) == list(range(3, 20))
    assert ids_of(newest_metadata(folder)) == list(range(3, 20))
    assert ids_of(before) == list(range(10))


def test_several_newest_metadata_files_are_refused(folder: Path) -> None:
    newest = Path(newest_metadata(folder))
    other = newest.with_name(newest.name.replace("abc", "xyz"))
    shutil.copy(newest, other)
    with pytest.raises(InputError, match=r"has several newest metadata files \(.*xyz.*name the right one"):
        manifest_of(folder)
    assert ids_of(other) == list(range(10))


def test_names_of_metadata_files_are_compared_as_numbers(folder: Path) -> None:
    newest = Path(newest_metadata(folder))
    for path in (folder / "metadata").glob("*.metadata.json"):
        path.rename(path.with_name("v9.metadata.json" if path == newest else "v1.metadata.json"))
    ICEBERG.append(folder, rows(10, 20))
    (folder / "metadata" / "00010-abc.metadata.json").rename(folder / "metadata" / "v10.metadata.json")
    assert ids_of(folder) == list(range(20))


def test_delete_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = DataScan.plan_files

    def with_deletes(scan: DataScan) -> list[Any]:
        tasks = list(plan(scan))
        tasks[0].delete_files.add(tasks[0].file)
        return tasks

    monkeypatch.setattr(DataScan, "plan_files", with_deletes)
    with pytest.raises(InputError, match=r"the Iceberg table '.*/t' has delete files.*compact it"):
        manifest_of(folder)


@pytest.mark.parametrize("change", ["renamed", "made anew", "added"])
def test_columns_that_files_call_otherwise_are_refused(folder: Path, change: str) -> None:
    table = iceberg(folder)
    with table.update_schema(allow_incompatible_changes=True) as update:
        if change == "renamed":
            update.rename_column("lang", "language")
        elif change == "added":
            update.add_column("more", table.schema().find_type("id"))
    if change == "made anew":
        for name in ("other", None):
            with iceberg(folder).update_schema(allow_incompatible_changes=True) as update:
                if name:
                    update.add_column(name, table.schema().find_type("id"))
                else:
                    update.delete_column("other")
        with iceberg(folder).update_schema(allow_incompatible_changes=True) as update:
            update.add_column("other", table.schema().find_type("id"))
    if change == "added":
        assert ids_of(folder) == list(range(10))
        return
    with pytest.raises(InputError, match=r"had columns renamed or made anew \((lang, language|other)\)"):
        manifest_of(folder)


def test_files_of_other_formats_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = DataScan.plan_files

    class Other:
        def __init__(self, file: Any) -> None:
            self.file_path, self.file_format = file.file_path, type(file.file_format).ORC

    def in_orc(scan: DataScan) -> list[Any]:
        class Task:
            delete_files = frozenset()

            def __init__(self, task: Any) -> None:
                self.file = Other(task.file)

        return [Task(task) for task in plan(scan)]

    monkeypatch.setattr(DataScan, "plan_files", in_orc)
    with pytest.raises(InputError, match="has files in ORC"):
        manifest_of(folder)


def test_a_table_that_was_moved_says_which_file_is_missing(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    with pytest.raises(InputError, match=r"(is gone|cannot be read)"):
        manifest_of(folder.with_name("moved"))


def test_files_elsewhere_on_the_filesystem_are_read(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "a.parquet"
    place.parent.mkdir()
    with iceberg(folder).update_schema() as update:
        update.union_by_name(rows(0, 1).schema)
    table = iceberg(folder)
    pq.write_table(rows(30, 33).filter([True, False, False]), place)
    table.add_files([place.as_uri()])
    assert ids_of(folder) == [*range(10), 30]
