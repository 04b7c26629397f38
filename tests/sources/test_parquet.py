import pickle
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.parquet import ParquetSource
from tests.sources.helpers import (
    LIST_KINDS,
    embedding_array,
    open_pool,
    pool_table,
    random_rows,
    read_range,
    write_pool,
)


@settings(max_examples=60)
@given(st.data())
def test_any_range_reads_back(data):
    """Any range, over random files, row-group sizes, float types, list kinds and id types."""
    counts = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(any), "rows of each file")
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]), "dtype")
    id_type = data.draw(st.sampled_from([pa.int64(), pa.int8(), pa.uint64(), pa.string(), pa.large_string()]))
    dictionary = data.draw(st.booleans(), "dictionary ids")
    num_rows = sum(counts)
    rows = random_rows(num_rows, dim=data.draw(st.integers(1, 4), "dim"), dtype=dtype)
    ids = pa.array(range(num_rows)).cast(id_type)
    with tempfile.TemporaryDirectory() as folder:
        first = 0
        for number, count in enumerate(counts):
            kind = data.draw(st.sampled_from(LIST_KINDS), "kind of list")
            part = ids.slice(first, count)
            column = embedding_array(rows[first : first + count], kind)
            table = pa.table({"embedding": column, "id": part.dictionary_encode() if dictionary else part})
            size = data.draw(st.integers(1, 6), "row group size")
            pq.write_table(table, Path(folder, f"{number}.parquet"), row_group_size=size)
            first += count
        source = open_pool(Path(folder))
        start = data.draw(st.integers(0, num_rows), "start")
        stop = data.draw(st.integers(start, num_rows), "stop")
        read_ids, read_rows = read_range(source, start, stop)
        positions = np.array(data.draw(st.lists(st.integers(0, num_rows - 1)), "positions"), np.int64)
        picked = source.embeddings(positions)
    assert read_ids == ids.slice(start, stop - start).to_pylist()
    assert read_rows.dtype == dtype
    np.testing.assert_array_equal(read_rows, rows[start:stop])
    assert picked.dtype == np.float64
    np.testing.assert_array_equal(picked, rows[positions].astype(np.float64))


def test_ids_have_the_promised_types(tmp_path):
    pq.write_table(pool_table(random_rows(3)), tmp_path / "int.parquet")
    strings = pa.table({"id": ["a", "", "ß" * 40], "embedding": embedding_array(random_rows(3))})
    pq.write_table(strings, tmp_path / "string.parquet")
    ints, _ = next(open_pool(tmp_path / "int.parquet").batches(0, 3))
    texts, _ = next(open_pool(tmp_path / "string.parquet").batches(0, 3))
    assert ints.dtype == np.int64
    assert texts.dtype == np.dtypes.StringDType()
    assert texts.tolist() == ["a", "", "ß" * 40]


def test_many_batches_in_one_row_group(tmp_path):
    rows = random_rows(9000, dim=128)
    pq.write_table(pool_table(rows), tmp_path / "a.parquet")
    source = open_pool(tmp_path)
    batches = list(source.batches(1, 8999))
    assert len(batches) > 2
    assert all(embeddings.nbytes <= 2 << 20 for _, embeddings in batches)
    assert all(embeddings.flags.c_contiguous for _, embeddings in batches)
    np.testing.assert_array_equal(np.concatenate([embeddings for _, embeddings in batches]), rows[1:8999])
    assert np.concatenate([ids for ids, _ in batches]).tolist() == list(range(1, 8999))
    np.testing.assert_array_equal(source.embeddings(np.array([8998, 4500, 0])), rows[[8998, 4500, 0]])


def test_take_keeps_the_order_asked_for(tmp_path):
    write_pool(tmp_path, [5, 9, 6])
    table = open_pool(tmp_path).take(np.array([17, 0, 5, 4, 17]), ["text", "id"])
    assert table.column_names == ["text", "id"]
    assert table.column("id").to_pylist() == [17, 0, 5, 4, 17]
    assert table.column("text").to_pylist() == ["row 17", "row 0", "row 5", "row 4", "row 17"]


def test_take_of_nothing(tmp_path):
    write_pool(tmp_path, [5])
    source = open_pool(tmp_path)
    empty = source.take(np.array([], np.int64), ["text"])
    assert (empty.num_rows, empty.schema.types) == (0, [pa.string()])
    assert source.embeddings(np.array([], np.int64)).shape == (0, 3)
    assert source.take(np.array([1]), []).num_columns == 0


def test_take_of_a_column_beside_one_nested_below_the_same_name(tmp_path):
    table = pool_table(random_rows(6))
    nested = pa.array([{"b": i} for i in range(6)])
    table = table.append_column("a", nested).append_column("a.b", pa.array(range(10, 16)))
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    taken = open_pool(tmp_path).take(np.array([5, 1]), ["a"])
    assert taken.to_pydict() == {"a": [{"b": 5}, {"b": 1}]}


def test_take_joins_columns_whose_integer_width_differs(tmp_path):
    for name, kind in (("a", pa.int32()), ("b", pa.int64())):
        table = pool_table(random_rows(2)).append_column("year", pa.array([1, 2], kind))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert open_pool(tmp_path).take(np.array([3, 0]), ["year"]).column(0).to_pylist() == [2, 1]


def test_take_of_columns_that_cannot_be_joined(tmp_path):
    for name, values in (("a", [1, 2]), ("b", [[1], [2]])):
        table = pool_table(random_rows(2)).append_column("year", pa.array(values))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match="columns year have types that differ between files"):
        open_pool(tmp_path).take(np.array([3, 0]), ["year"])


def test_take_of_a_missing_column(tmp_path):
    write_pool(tmp_path, [5])
    with pytest.raises(InputError, match=r"'part-0.parquet': no column 'title'.*id, embedding, text"):
        open_pool(tmp_path).take(np.array([1]), ["title"])


def test_locate(tmp_path):
    write_pool(tmp_path, [5, 0, 9])
    files, rows = open_pool(tmp_path).locate(np.array([13, 0, 4, 5]))
    assert files == ["part-2.parquet", "part-0.parquet", "part-0.parquet", "part-2.parquet"]
    assert rows.tolist() == [8, 0, 4, 0]


@pytest.mark.parametrize("position", [-1, 14])
def test_positions_outside_the_pool(tmp_path, position):
    write_pool(tmp_path, [5, 9])
    source = open_pool(tmp_path)
    for read in (source.embeddings, source.locate, lambda positions: source.take(positions, ["id"])):
        with pytest.raises(IndexError, match="pool of 14 rows"):
            read(np.array([3, position]))


def test_pickle_is_small_and_reads_the_same(tmp_path):
    rows = write_pool(tmp_path, [5000])
    source = open_pool(tmp_path)
    pickled = pickle.dumps(source)
    assert len(pickled) < 20_000
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(read_range(again, 3, 4990)[1], rows[3:4990])


def test_position_ids(tmp_path):
    write_pool(tmp_path, [5, 9])
    source = ParquetSource(build_manifest([str(tmp_path)], Asked("", "embedding")))
    assert read_range(source, 3, 12)[0] == list(range(3, 12))


def test_bad_row_is_named_with_its_row_in_the_file(tmp_path):
    write_pool(tmp_path, [5, 9])
    rows = random_rows(9)
    rows[7, 1] = np.nan
    pq.write_table(pool_table(rows), tmp_path / "part-1.parquet", row_group_size=4)
    source = open_pool(tmp_path)
    named = r"file 'part-1.parquet', row 7 \(counting from 0\): column 'embedding' holds NaN; drop"
    with pytest.raises(InputError, match=named):
        read_range(source, 11, 14)
    with pytest.raises(InputError, match=named):
        source.embeddings(np.array([13, 12, 3]))
    assert len(read_range(source, 0, 12)[0]) == 12


def test_bad_id_is_named_with_its_row_in_the_file(tmp_path):
    table = pa.table({"id": pa.array([1, 2, 3, 4, 5, None]), "embedding": embedding_array(random_rows(6))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    with pytest.raises(InputError, match=r"file 'a.parquet', row 5 .*id column 'id' is null"):
        read_range(open_pool(tmp_path), 2, 6)


def test_other_length_in_another_file(tmp_path):
    pq.write_table(pool_table(random_rows(3), kind="list"), tmp_path / "a.parquet")
    pq.write_table(pool_table(random_rows(2, dim=5), kind="list"), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"file 'b.parquet', row 0 .*'embedding' has 5 numbers where the pool has 3"):
        read_range(open_pool(tmp_path), 0, 5)


def test_damaged_page_names_the_file(tmp_path):
    write_pool(tmp_path, [5])
    path = tmp_path / "part-1.parquet"
    pq.write_table(pool_table(random_rows(900), 5), path, write_page_checksum=True)
    source = open_pool(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file 'part-1.parquet' cannot be read as Parquet: .*write or copy"):
        source.take(np.arange(905), ["id", "embedding", "text"])
    assert len(read_range(source, 0, 5)[0]) == 5


def test_garbage_over_all_pages_names_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pool_table(random_rows(900)), path)
    source = open_pool(tmp_path)
    content = bytearray(path.read_bytes())
    content[4:5000] = b"\xff" * 4996
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file 'a.parquet' cannot be read as Parquet"):
        read_range(source, 0, 900)


def test_damaged_column_name_names_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pool_table(random_rows(9)), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"text", b"\xffext"))
    with pytest.raises(InputError, match=r"file 'a.parquet' cannot be read as Parquet: 'utf-8' codec"):
        read_range(open_pool(tmp_path), 0, 9)


def test_vanished_file_is_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    source = open_pool(tmp_path)
    (tmp_path / "part-1.parquet").unlink()
    with pytest.raises(InputError, match=r"file 'part-1.parquet' is gone"):
        read_range(source, 0, 14)


def test_replaced_file_is_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    source = open_pool(tmp_path)
    pq.write_table(pool_table(random_rows(9), 5), tmp_path / "part-1.parquet", row_group_size=3)
    with pytest.raises(InputError, match=r"file 'part-1.parquet' was replaced"):
        read_range(source, 0, 14)


def test_a_file_replaced_by_one_of_equal_shape_is_named(tmp_path):
    write_pool(tmp_path, [5, 9])
    source = open_pool(tmp_path)
    pq.write_table(pool_table(random_rows(9, seed=3), 5), tmp_path / "part-1.parquet", row_group_size=4)
    for read in (
        lambda: read_range(source, 0, 14),
        lambda: source.take(np.array([3, 9]), ["id"]),
        lambda: source.embeddings(np.array([9])),
    ):
        with pytest.raises(InputError, match=r"file 'part-1.parquet' was replaced"):
            read()
    assert source.take(np.array([3]), ["id"]).num_rows == 1, "the other file is as it was"
