import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked, by_option
from ray_itl.sources.files.parquet import fingerprint_file
from ray_itl.sources.manifest import describe_changes
from tests.sources.helpers import embedding_array, open_pool, pool_table, random_rows, write_pool


def build(path, columns=(), **options):
    return build_manifest([str(path)], Asked("id", "embedding", by_option(columns)), **options)


def test_manifest_says_what_the_footers_say(tmp_path):
    write_pool(tmp_path, [5, 9], row_group_size=4)
    manifest = build(tmp_path)
    assert [file.path for file in manifest.files] == ["part-0.parquet", "part-1.parquet"]
    assert [file.row_groups for file in manifest.files] == [(4, 1), (4, 4, 1)]
    assert [file.size_bytes for file in manifest.files] == [
        (tmp_path / file.path).stat().st_size for file in manifest.files
    ]
    assert (manifest.num_rows, manifest.dim, manifest.dtype, manifest.id_kind) == (14, 3, "float32", "int")
    assert manifest.root == str(tmp_path)


@pytest.mark.parametrize("kind", ["list", "large_list"])
def test_dimension_of_free_lists_comes_from_the_first_row_there_is(tmp_path, kind):
    pq.write_table(pool_table(random_rows(0), kind=kind), tmp_path / "a.parquet")
    pq.write_table(pool_table(random_rows(4, dim=6), kind=kind), tmp_path / "b.parquet")
    assert build(tmp_path).dim == 6


def test_a_copy_elsewhere_has_the_same_fingerprint(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    write_pool(first, [5, 9])
    shutil.copytree(first, second)
    assert build(first).fingerprint == build(second).fingerprint


def test_an_unchanged_pool_is_recognised_however_it_is_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    manifest = build(tmp_path)
    for again in (build(tmp_path), build(tmp_path, filesystem=pafs.LocalFileSystem()), build(tmp_path.as_uri())):
        assert describe_changes(manifest, again) == ""


def test_replaced_file_is_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    manifest = build(tmp_path)
    pq.write_table(pool_table(random_rows(9, seed=7), 5), tmp_path / "part-1.parquet", row_group_size=4)
    assert describe_changes(manifest, build(tmp_path)) == "changed: part-1.parquet"


def test_vanished_and_appeared_files_are_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    manifest = build(tmp_path)
    (tmp_path / "part-0.parquet").rename(tmp_path / "late.parquet")
    assert describe_changes(manifest, build(tmp_path)) == "vanished: part-0.parquet; appeared: late.parquet"


def test_a_file_that_was_cut_short_is_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    os.truncate(tmp_path / "part-1.parquet", 100)
    with pytest.raises(InputError, match=r"part-1.parquet.*cut short"):
        build(tmp_path)


@pytest.mark.parametrize("offset", [5, 200_000, 399_990])
def test_fingerprint_of_a_file_under_a_mebibyte_sees_every_byte(tmp_path, offset):
    path = tmp_path / "a.parquet"
    pq.write_table(pool_table(random_rows(25_000)), path, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    assert 400_000 < len(content) < 1 << 20
    before = fingerprint_file(pafs.LocalFileSystem(), str(path))
    content[offset] ^= 1
    path.write_bytes(content)
    after = fingerprint_file(pafs.LocalFileSystem(), str(path))
    assert before[0] == after[0] == len(content)
    assert before[1] != after[1]


def test_fingerprint_reads_about_a_mebibyte_of_a_large_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pool_table(random_rows(20_000, dim=64)), path, compression="none", use_dictionary=False)
    assert path.stat().st_size > 5 << 20
    counted = CountingFiles()
    fingerprint_file(pafs.PyFileSystem(counted), str(path))
    assert 1 << 19 < counted.num_bytes < (1 << 20) + 65536


class CountingFiles(pafs.FSSpecHandler):
    """A filesystem that counts the bytes read from it."""

    def __init__(self):
        self.num_bytes = 0

    def open_input_file(self, path):
        handler = self

        class File:
            closed = False

            def __init__(self):
                self.raw = open(path, "rb")  # noqa: PTH123, SIM115 - closed by Arrow through close()

            def read(self, count=-1):
                data = self.raw.read(count)
                handler.num_bytes += len(data)
                return data

            def __getattr__(self, name):
                return getattr(self.raw, name)

        return pa.PythonFile(File(), mode="r")


def test_pool_without_rows(tmp_path):
    write_pool(tmp_path, [0, 0])
    with pytest.raises(InputError, match=r"files under .* have no rows"):
        build(tmp_path)


def test_empty_files_beside_full_ones_are_fine(tmp_path):
    rows = write_pool(tmp_path, [0, 3, 0, 2])
    source = open_pool(tmp_path)
    assert source.num_rows == 5
    np.testing.assert_array_equal(source.embeddings(np.arange(5)), rows)


def test_file_that_is_not_parquet(tmp_path):
    write_pool(tmp_path, [3])
    (tmp_path / "notes.parquet").write_text("not a table, but long enough to be one")
    with pytest.raises(InputError, match=r"'notes.parquet' cannot be read as Parquet.*something else"):
        build(tmp_path)


@pytest.mark.parametrize("size", [0, 3, 12, 400])
def test_truncated_file(tmp_path, size):
    write_pool(tmp_path, [300])
    os.truncate(tmp_path / "part-0.parquet", size)
    with pytest.raises(InputError, match=r"'part-0.parquet' cannot be read as Parquet.*cut short"):
        build(tmp_path)


def test_footer_that_claims_more_than_the_file_holds(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + bytes(100) + (2**31).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=r"'a.parquet'.*claims 2147483648 bytes in a file of 112"):
        build(path)


def test_footer_of_garbage(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + b"\xff" * 100 + (100).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=r"'a.parquet' cannot be read as Parquet"):
        build(path)


def test_missing_column_names_file_and_columns(tmp_path):
    write_pool(tmp_path, [3, 3])
    table = pool_table(random_rows(2))
    pq.write_table(table.rename_columns(["id", "vector", "text"]), tmp_path / "part-9.parquet")
    with pytest.raises(
        InputError, match=r"'part-9.parquet': no column 'embedding'.*id, vector, text.*embedding_column"
    ):
        build(tmp_path)


def test_missing_extra_column_names_the_file(tmp_path):
    write_pool(tmp_path, [3, 3])
    pq.write_table(pool_table(random_rows(2)).drop_columns(["text"]), tmp_path / "part-9.parquet")
    assert build(tmp_path).num_rows == 8
    with pytest.raises(InputError, match=r"'part-9.parquet': no column 'text'.*set columns"):
        build(tmp_path, columns=["text"])


def test_other_dimension_names_both_files(tmp_path):
    write_pool(tmp_path, [3, 3])
    pq.write_table(pool_table(random_rows(2, dim=5)), tmp_path / "part-9.parquet")
    with pytest.raises(InputError, match=r"'part-9.parquet' has .*dimension 5 where file 'part-0.parquet' has 3"):
        build(tmp_path)


def test_other_id_type_names_both_files(tmp_path):
    write_pool(tmp_path, [3, 3])
    table = pa.table({"id": ["a", "b"], "embedding": embedding_array(random_rows(2))})
    pq.write_table(table, tmp_path / "part-9.parquet")
    with pytest.raises(
        InputError, match=r"'part-9.parquet' has ids of type string where file 'part-0.parquet' has int"
    ):
        build(tmp_path)
