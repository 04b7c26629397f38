"""Tables as pools: the rows that their logs say, in whatever way they are named, and never a deleted one."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.errors import ConfigError, InputError, MissingExtraError
from ray_itl.io.listing import PoolPaths
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.manifest import Manifest, describe_changes
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.parquet import ParquetSource
from tests.sources.helpers import read_range
from tests.sources.tables.writers import WRITERS, Writer, embeddings, rows


@pytest.fixture(params=sorted(WRITERS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def writer(kind: str) -> Writer:
    return WRITERS[kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pool" / "t"


def manifest_of(*paths: object, version: int | None = None) -> Manifest:
    asked = PoolPaths(tuple(str(path) for path in paths), version=version)
    return build_manifest(asked, Asked("id", "embedding"))


def ids_of(*paths: object, version: int | None = None) -> list[int]:
    """Read a pool, check that every embedding is the one of its id, and return the ids, sorted."""
    source = ParquetSource(manifest_of(*paths, version=version))
    ids, matrix = read_range(source, 0, source.num_rows)
    np.testing.assert_array_equal(matrix, embeddings(ids))
    return sorted(ids)


def test_rows_are_those_that_its_own_library_reads(folder: Path, writer: Writer) -> None:
    writer.append(folder, rows(0, 30))
    assert ids_of(folder) == writer.ids(folder) == list(range(30))
    writer.append(folder, rows(30, 40))
    writer.delete(folder, "id < 5")
    writer.delete(folder, "id = 33")
    expected = [each for each in range(5, 40) if each != 33]
    assert ids_of(folder) == writer.ids(folder) == expected
    assert ids_of(folder.as_uri()) == expected
    assert ids_of(folder, folder) == expected
    writer.append(folder, rows(0, 3))
    assert ids_of(folder) == [0, 1, 2, *expected]


def test_any_rows_of_it_are_fetched(folder: Path, writer: Writer) -> None:
    writer.append(folder, rows(0, 30))
    writer.append(folder, rows(30, 50))
    writer.delete(folder, "id in (2, 17, 40)")
    source = pickle.loads(pickle.dumps(ParquetSource(manifest_of(folder))))
    positions = np.array([0, 3, 8, 30, source.num_rows - 1])
    table = source.take(positions, ["id"])
    np.testing.assert_array_equal(source.embeddings(positions), embeddings(table["id"].to_pylist()))
    ids, matrix = zip(*source.batches_at(positions), strict=True)
    assert np.concatenate(ids).tolist() == table["id"].to_pylist()
    np.testing.assert_array_equal(np.concatenate(matrix), embeddings(table["id"].to_pylist()))
    part, _ = read_range(source, 5, 40)
    assert part == source.take(np.arange(5, 40), ["id"])["id"].to_pylist()


def test_groups_of_rows_begin_anywhere(folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_itl.sources.tables.lance._GROUP_ROWS", 7)
    writer.append(folder, rows(0, 40))
    writer.delete(folder, "id in (0, 6, 7, 20)")
    source = ParquetSource(manifest_of(folder))
    everything, _ = read_range(source, 0, source.num_rows)
    assert sorted(everything) == writer.ids(folder)
    for start in range(0, 36, 5):
        assert read_range(source, start, min(start + 9, 36))[0] == everything[start : start + 9]


def test_an_older_version_may_be_asked_for(folder: Path, writer: Writer) -> None:
    writer.append(folder, rows(0, 30))
    first = writer.version(folder)
    writer.append(folder, rows(30, 40))
    writer.delete(folder, "id < 5")
    assert ids_of(folder, version=first) == list(range(30))
    assert ids_of(folder, version=writer.version(folder)) == list(range(5, 40))
    with pytest.raises(InputError, match=r"pool\.version") as caught:
        manifest_of(folder, version=12345)
    assert "\n" not in str(caught.value)


def test_the_version_is_in_the_manifest(folder: Path, kind: str, writer: Writer) -> None:
    writer.append(folder, rows(0, 30))
    manifest = manifest_of(folder)
    (table,) = manifest.tables
    assert (table.kind, table.path, table.version) == (kind, ".", writer.version(folder))
    assert Manifest.from_json(manifest.to_json()) == manifest
    writer.append(folder, rows(30, 40))
    after = manifest_of(folder)
    assert after.tables[0].version == writer.version(folder) != table.version
    assert "appeared" in describe_changes(manifest, after)
    assert after.fingerprint != manifest.fingerprint


def test_a_pool_of_files_says_nothing_of_tables(tmp_path: Path) -> None:
    pq.write_table(rows(0, 3), tmp_path / "a.parquet")
    manifest = manifest_of(tmp_path)
    assert manifest.tables == ()
    assert '"tables"' not in manifest.to_json()
    with pytest.raises(ConfigError, match=r"pool\.version=1, but .* is no table"):
        manifest_of(tmp_path, version=1)


def test_a_folder_of_tables_and_files_is_all_of_them(folder: Path) -> None:
    for number, (name, each) in enumerate(sorted(WRITERS.items())):
        each.append(folder.parent / "tables" / name, rows(10 * number, 10 * number + 10))
        each.delete(folder.parent / "tables" / name, f"id = {10 * number + 4}")
    pq.write_table(rows(100, 103), folder.parent / "a.parquet")
    expected = [*(each for each in range(30) if each % 10 != 4), 100, 101, 102]
    assert ids_of(folder.parent) == expected
    assert ids_of(folder.parent / "tables", folder.parent / "*.parquet") == expected
    assert [table.path for table in manifest_of(folder.parent).tables] == [f"tables/{name}" for name in sorted(WRITERS)]
    with pytest.raises(ConfigError, match="means 3 tables"):
        manifest_of(folder.parent, version=1)


def test_a_link_to_a_table_is_the_table(folder: Path, writer: Writer) -> None:
    writer.append(folder, rows(0, 10))
    writer.delete(folder, "id < 5")
    (folder.parent / "link").symlink_to(folder)
    linked = folder.parent.parent / "linked"
    linked.mkdir()
    (linked / "t").symlink_to(folder)
    for place in (folder.parent, folder.parent / "link", linked):
        assert ids_of(place) == [5, 6, 7, 8, 9]


def test_a_link_into_a_table_is_refused(folder: Path, tmp_path: Path) -> None:
    WRITERS["delta"].append(folder, rows(0, 10), partition="lang")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "en").symlink_to(folder / "lang=en")
    with pytest.raises(InputError, match=r"links/en' is a link into a Delta table, '.*/t', .*: name the table"):
        manifest_of(tmp_path / "links")
    (tmp_path / "links" / "en").unlink()
    (tmp_path / "links" / "a.parquet").symlink_to(next((folder / "lang=en").iterdir()))
    with pytest.raises(InputError, match="is a link into a Delta table"):
        manifest_of(tmp_path / "links")


@pytest.mark.parametrize("name", ["delta", "iceberg"])
def test_a_part_of_a_table_is_its_live_rows(folder: Path, name: str) -> None:
    writer = WRITERS[name]
    writer.append(folder, rows(0, 30), partition="lang")
    writer.append(folder, rows(30, 60))
    writer.delete(folder, "lang = 'en' and id < 30")
    data = folder / "data" if name == "iceberg" else folder
    expected = list(range(30, 60, 3))
    for part in (data / "lang=en", data / "lang=e*/*.parquet", data / "lang=en/*", folder / "**/lang=en/*.parquet"):
        assert ids_of(part) == expected, part
    assert ids_of(folder) == ids_of(folder / "**/*.parquet") == writer.ids(folder)
    (folder.parent / "en").symlink_to(data / "lang=en")
    assert ids_of(folder.parent / "en") == expected


@pytest.mark.parametrize("name", ["delta", "iceberg"])
def test_a_file_of_a_table_counts_while_it_is_one(folder: Path, name: str) -> None:
    writer = WRITERS[name]
    writer.append(folder, rows(0, 10))
    (first,) = folder.rglob("*.parquet")
    assert ids_of(first) == list(range(10))
    writer.delete(folder, "id < 5")
    assert first.exists()
    with pytest.raises(InputError, match=r"means no file that the .* has at version .*deleted or moved"):
        manifest_of(first)
    with pytest.raises(InputError, match="means no file that"):
        manifest_of(f"{first.parent}/{first.stem}*")


def test_a_table_without_rows_is_refused_unless_others_have_some(folder: Path, kind: str, writer: Writer) -> None:
    writer.append(folder, rows(0, 10))
    writer.delete(folder, "id >= 0")
    with pytest.raises(InputError, match=r"no file with rows matched .*: its tables have no rows"):
        manifest_of(folder)
    pq.write_table(rows(0, 3), folder.parent / "a.parquet")
    assert ids_of(folder.parent) == [0, 1, 2]
    assert manifest_of(folder.parent).tables[0].kind == kind


def test_a_damaged_table_is_named_in_one_line(folder: Path, kind: str, writer: Writer) -> None:
    writer.append(folder, rows(0, 10))
    log = {"delta": "_delta_log/*.json", "iceberg": "metadata/*.metadata.json", "lance": "_versions/*"}[kind]
    for path in folder.glob(log):
        path.write_bytes(b"{not a log")
    with pytest.raises(InputError, match=r"the .* '.*/t' cannot be read: .*(repair|name Parquet files)") as caught:
        manifest_of(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["deltalake", "pyiceberg.table", "lance"])
def test_a_library_that_is_not_there_is_named_with_its_extra(
    folder: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"deltalake": "delta", "pyiceberg.table": "iceberg", "lance": "lance"}
    WRITERS[kinds[library]].append(folder, rows(0, 10))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"/t' needs .*, which is not installed: .*ray_itl\[tables\]"):
        manifest_of(folder)


@pytest.mark.parametrize(("marker", "name"), [(".hoodie/hoodie.properties", "Hudi"), ("snapshot/snapshot-1", "Paimon")])
def test_other_tables_are_refused_by_name(folder: Path, marker: str, name: str) -> None:
    (folder / marker).parent.mkdir(parents=True)
    (folder / marker).touch()
    (folder / "day=1").mkdir()
    pq.write_table(rows(0, 10), folder / "day=1" / "a.parquet")
    for place in (folder, folder.parent, folder / "day=1", folder / "*/*.parquet", folder / "day=1" / "a.parquet"):
        with pytest.raises(InputError, match=f"the {name} table '.*/t' cannot be read.*export it"):
            manifest_of(place)


def test_where_two_kinds_of_logs_lie_the_one_that_cannot_be_read_counts(folder: Path) -> None:
    WRITERS["delta"].append(folder, rows(0, 10))
    (folder / ".hoodie").mkdir()
    with pytest.raises(InputError, match="Hudi table"):
        manifest_of(folder)


@pytest.mark.parametrize("name", ["metadata/notes.json", "_versions/readme", "snapshot/readme", "schema/x"])
def test_folders_that_only_look_like_tables_are_none(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True)
    (folder / name).touch()
    pq.write_table(rows(0, 3), folder / "a.parquet")
    assert ids_of(folder) == [0, 1, 2]


def test_a_table_is_found_by_what_other_filesystems_list(folder: Path) -> None:
    """There no library can reach it, so that it is refused instead of read as files."""
    WRITERS["delta"].append(folder, rows(0, 10), partition="lang")
    for place in (folder, folder.parent, folder / "lang=en", folder / "lang=en/*.parquet"):
        with pytest.raises(InputError, match="is a table on a filesystem on which tables cannot be read"):
            manifest_of(f"fsspec+local://{place}")


def test_a_dataset_that_its_library_made_is_taken_as_it_is(folder: Path) -> None:
    WRITERS["delta"].append(folder, rows(0, 30))
    WRITERS["delta"].delete(folder, "id < 5")
    dataset = deltalake.DeltaTable(str(folder)).to_pyarrow_dataset()
    targets = embeddings([100, 101])
    expected = select(folder, targets, n=10).ids
    assert list(select(dataset, targets, n=10).ids) == list(expected)


def test_rows_yet_to_be_embedded_are_read_alike(folder: Path, writer: Writer) -> None:
    writer.append(folder, rows(0, 10))
    writer.delete(folder, "id < 5")
    source = open_raw_rows(str(folder), id_column="id", columns=["lang"])
    ((ids, batch),) = source.row_batches(0, source.num_rows, ["lang"])
    assert sorted(ids.tolist()) == [5, 6, 7, 8, 9]
    assert batch.column(0).to_pylist() == [rows(each, each + 1)["lang"][0].as_py() for each in ids.tolist()]


def test_picks_are_those_from_the_same_rows_in_memory(folder: Path, writer: Writer) -> None:
    """As pool, target, known and avoid, and by a filter."""
    places = [folder.parent / name for name in ("t", "target", "known", "avoid")]
    tables = [rows(0, 60), rows(100, 105), rows(200, 203), rows(300, 302)]
    for place, table in zip(places, tables, strict=True):
        writer.append(place, table)
        writer.delete(place, "id in (7, 22, 101, 200, 301)")
    kept = [table.filter(pa.array([each not in (7, 22, 101, 200, 301) for each in table["id"].to_pylist()]))
            for table in tables]  # fmt: skip
    options = {"n": 8, "filter": "id < 20 or id > 40"}
    found, expected = (
        select(pool, target, known=known, avoid=avoid, **options) for pool, target, known, avoid in (places, kept)
    )
    assert list(found.ids) == list(expected.ids)
    np.testing.assert_allclose(found.gains, expected.gains)


def test_a_table_whose_file_is_gone_says_so(folder: Path, writer: Writer) -> None:
    writer.append(folder, rows(0, 10))
    manifest = manifest_of(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"gone|cannot be read"):
        read_range(ParquetSource(manifest), 0, 10)
