import pickle
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.errors import InputError
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.open import open_raw_rows, open_source
from ray_itl.sources.parquet import ParquetSource
from tests.sources.helpers import LIST_KINDS, embedding_array, pool_table, random_rows, read_range, write_pool


def every_kind(folder, rows):
    """Open the same 14 rows in every way there is, by name."""
    table = pool_table(rows)
    chunked = pa.concat_tables([table.slice(0, 6), table.slice(6)])
    paths = [folder / "part-0.parquet", folder / "part-1.parquet"]
    dataset = pads.dataset(folder)
    pools = {
        "folder": folder,
        "string": str(folder),
        "glob": f"{folder}/part-*.parquet",
        "uri": folder.as_uri(),
        "list": paths,
        "dataset": dataset,
        "kept rows": pads.dataset(folder).filter(pads.field("id") >= 0),
        "in-memory dataset": pads.dataset(table),
        "table": table,
        "chunked table": chunked,
    }
    sources = {name: open_source(pool, id_column="id", columns=["text"]) for name, pool in pools.items()}
    sources["array"] = open_source(rows)
    sources["tensor"] = open_source(torch.from_numpy(rows))
    return sources


def test_every_kind_of_pool_reads_the_same(tmp_path):
    rows = write_pool(tmp_path, [5, 9])
    positions = np.array([12, 0, 6, 5, 12])
    for name, source in every_kind(tmp_path, rows).items():
        for reader in (source, pickle.loads(pickle.dumps(source))):
            assert (reader.num_rows, reader.dim, reader.dtype, reader.id_kind) == (14, 3, np.float32, "int"), name
            ids, embeddings = read_range(reader, 2, 13)
            assert ids == list(range(2, 13)), name
            np.testing.assert_array_equal(embeddings, rows[2:13], err_msg=name)
            picked = reader.embeddings(positions)
            assert picked.dtype == np.float64
            np.testing.assert_array_equal(picked, rows[positions].astype(np.float64), err_msg=name)
            assert read_range(reader, 4, 4)[0] == []


def test_take_and_locate_of_every_kind(tmp_path):
    rows = write_pool(tmp_path, [5, 9])
    positions = np.array([12, 0, 5])
    for name, source in every_kind(tmp_path, rows).items():
        files, found = source.locate(positions)
        if isinstance(source, ParquetSource):
            assert (files, found.tolist()) == (["part-1.parquet", "part-0.parquet", "part-1.parquet"], [7, 0, 0])
        else:
            assert (files, found.tolist()) == ([""] * 3, [12, 0, 5])
        if isinstance(source, ArraySource):
            with pytest.raises(InputError, match="an array has no columns"):
                source.take(positions, ["text"])
        else:
            assert source.take(positions, ["text"]).to_pydict() == {"text": ["row 12", "row 0", "row 5"]}, name
        assert source.take(positions, []).num_columns == 0


def test_positions_outside_every_kind(tmp_path):
    for source in every_kind(tmp_path, write_pool(tmp_path, [5, 9])).values():
        for read in (source.embeddings, source.locate):
            with pytest.raises(IndexError, match="pool of 14 rows"):
                read(np.array([14]))
        with pytest.raises(IndexError, match="pool of 14 rows"):
            list(source.batches(3, 15))


def test_a_filtered_dataset_is_not_its_files(tmp_path):
    rows = write_pool(tmp_path, [5, 9])
    source = open_source(pads.dataset(tmp_path).filter(pads.field("id") > 10), id_column="id")
    ids, embeddings = read_range(source, 0, source.num_rows)
    assert ids == [11, 12, 13]
    np.testing.assert_array_equal(embeddings, rows[11:])


def test_a_dataset_of_parquet_files_is_streamed(tmp_path):
    write_pool(tmp_path, [5, 9])
    assert isinstance(open_source(pads.dataset(tmp_path), id_column="id"), ParquetSource)


def test_filesystem_option(tmp_path):
    rows = write_pool(tmp_path, [5, 9])
    inner = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    source = open_source("part-1.parquet", id_column="id", filesystem=inner)
    np.testing.assert_array_equal(source.embeddings(np.arange(9)), rows[5:])


def test_array_has_no_columns():
    with pytest.raises(InputError, match="an array has no columns; leave the options that name one empty"):
        open_source(random_rows(3), id_column="id")
    with pytest.raises(InputError, match="an array has no columns; leave the options that name one empty"):
        open_source(random_rows(3), columns=["text"])


@pytest.mark.parametrize("pool", [[random_rows(3)], [1.0, 2.0]])
def test_list_of_something_else(pool):
    with pytest.raises(InputError, match=r"the pool is a list that holds (ndarray|float); hand over paths"):
        open_source(pool, id_column="id")


def test_something_that_is_no_path_is_refused():
    with pytest.raises(InputError, match="the pool is of type int; hand over paths"):
        open_raw_rows(3, id_column="id")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["id_column", "embedding_column", "columns"])
def test_missing_column_of_a_table_or_dataset(tmp_path, option):
    table = pool_table(write_pool(tmp_path, [5]))
    asked = {"id_column": "id", option: ["nope"] if option == "columns" else "nope"}
    for pool in (table, pads.dataset(table), pads.dataset(tmp_path)):
        with pytest.raises(InputError, match=rf"no column 'nope'; .*id, embedding, text; set {option}"):
            open_source(pool, **asked)


def test_table_without_rows():
    with pytest.raises(InputError, match="the table has no rows"):
        TableSource(pool_table(random_rows(0)), "id", "embedding")


@pytest.mark.parametrize("kind", LIST_KINDS)
def test_table_of_any_kind_of_list(kind):
    rows = random_rows(6)
    source = TableSource(pool_table(rows, kind=kind), "id", "embedding")
    np.testing.assert_array_equal(read_range(source, 1, 5)[1], rows[1:5])
    np.testing.assert_array_equal(source.embeddings(np.array([4, 2])), rows[[4, 2]])


def test_bad_rows_of_a_chunked_table_are_named():
    rows = random_rows(6)
    rows[4, 0] = np.inf
    table = pa.concat_tables([pool_table(rows[:3]), pool_table(rows[3:])])
    source = TableSource(table, "id", "embedding")
    with pytest.raises(InputError, match=r"^row 4 \(counting from 0\): column 'embedding' holds infinity"):
        read_range(source, 1, 6)
    with pytest.raises(InputError, match=r"^row 4 "):
        source.embeddings(np.array([0, 4]))
    ids = pa.table({"id": pa.array([1, None, 3]), "embedding": embedding_array(random_rows(3))})
    with pytest.raises(InputError, match=r"^row 1 .*id column 'id' is null"):
        read_range(TableSource(ids, "id", "embedding"), 0, 3)


def test_bad_rows_of_an_array_are_named():
    rows = random_rows(6)
    rows[4, 0] = np.nan
    source = ArraySource(rows)
    with pytest.raises(InputError, match=r"^row 4 \(counting from 0\): .*holds NaN"):
        read_range(source, 1, 6)
    with pytest.raises(InputError, match=r"^row 4 "):
        source.embeddings(np.array([0, 4]))


def test_array_comes_in_batches_that_share_its_memory():
    rows = random_rows(6000, dim=200)
    batches = list(ArraySource(rows).batches(0, 6000))
    assert len(batches) > 1
    assert all(np.shares_memory(embeddings, rows) for _, embeddings in batches)


@pytest.mark.parametrize("ids", [["a", "b", "c"], np.array(["a", "b", "c"]), np.array(["a", "b", "c"], object)])
def test_string_ids_of_an_array(ids):
    source = ArraySource(random_rows(3), ids)
    read_ids, _ = next(source.batches(1, 3))
    assert source.id_kind == "string"
    assert read_ids.dtype == np.dtypes.StringDType()
    assert read_ids.tolist() == ["b", "c"]


@pytest.mark.parametrize("ids", [[7, 8, 9], np.array([7, 8, 9], np.uint8), range(7, 10)])
def test_integer_ids_of_an_array(ids):
    source = ArraySource(random_rows(3), ids)
    read_ids, _ = next(source.batches(1, 3))
    assert (source.id_kind, read_ids.dtype, read_ids.tolist()) == ("int", np.int64, [8, 9])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2], "2 ids for 3 rows"),
        ([1, "a", 2], "not all 64-bit integers or all strings"),
        ([1, None, 2], "row 1 .*'ids' is null"),
        ([0.5, 1.0, 2.0], "'ids' has type double"),
        ([1, 2, 2**63], "not all 64-bit integers or all strings"),
    ],
)
def test_wrong_ids_of_an_array(ids, message):
    with pytest.raises(InputError, match=message):
        ArraySource(random_rows(3), ids)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.float32), r"shape \(3,\)"),
        (np.zeros((3, 2), np.int64), "type int64"),
        (np.zeros((0, 2)), r"shape \(0, 2\), so it holds nothing"),
        (np.zeros((2, 0)), r"shape \(2, 0\), so it holds nothing"),
        (torch.zeros(2, 2, 2), r"shape \(2, 2, 2\)"),
        (torch.zeros(2, 2, dtype=torch.int32), "type int32"),
    ],
)
def test_arrays_that_are_no_embeddings(array, message):
    with pytest.raises(InputError, match=message):
        open_source(array)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_every_float_type(dtype):
    tensor = torch.randn(4, 3).to(dtype).requires_grad_()
    source = open_source(tensor)
    expected = tensor.detach().double().numpy()
    np.testing.assert_array_equal(source.embeddings(np.arange(4)), expected)
    assert source.dtype == (np.float32 if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))


@pytest.mark.parametrize(
    ("ids", "kind", "expected"),
    [
        (np.array([1, 2, 2**63], np.uint64), "uint", [1, 2, 2**63]),
        ([uuid.UUID(int=k) for k in range(3)], "string", [str(uuid.UUID(int=k)) for k in range(3)]),
        ([b"\x01", b"\x02\xff", b""], "string", ["01", "02ff", ""]),
        ([Decimal(7), Decimal(8), Decimal(2**60)], "int", [7, 8, 2**60]),
    ],
)
def test_ids_of_databases_of_an_array(ids, kind, expected):
    source = ArraySource(random_rows(3), ids)
    assert (source.id_kind, read_range(source, 0, 3)[0]) == (kind, expected)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_array_of_1_x_d_matrices(kind):
    rows = random_rows(4)
    source = open_source(kind(rows[:, None]))
    assert (source.num_rows, source.dim) == (4, 3)
    np.testing.assert_array_equal(read_range(source, 1, 4)[1], rows[1:])


def test_array_that_is_not_contiguous():
    rows = random_rows(8)[::2]
    _, embeddings = next(ArraySource(rows).batches(0, 4))
    assert embeddings.flags.c_contiguous
    np.testing.assert_array_equal(embeddings, rows)


def test_embedding_column_by_another_name(tmp_path):
    rows = random_rows(4)
    table = pool_table(rows).rename_columns(["key", "vector", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(tmp_path, id_column="key", embedding_column="vector")
    np.testing.assert_array_equal(read_range(source, 0, 4)[1], rows)
