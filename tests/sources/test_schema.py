import re

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.schema import (
    check_embedding_type,
    embedding_rows,
    find_column,
    usual_dim,
    which_row,
)
from tests.sources.helpers import LIST_KINDS, embedding_array, random_rows


def named(row: int) -> str:
    return which_row("a.parquet", 100 + row)


def rows_of(array: pa.Array, dim: int = 3) -> np.ndarray:
    return embedding_rows(array, dim, "vector", named)


@pytest.mark.parametrize("kind", LIST_KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_matrix_shares_memory_and_respects_slices(kind, dtype):
    rows = random_rows(7, dtype=dtype)
    array = embedding_array(rows, kind)
    result = rows_of(array.slice(2, 4))
    np.testing.assert_array_equal(result, rows[2:6])
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    assert np.shares_memory(result, rows_of(array))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 3), pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_null_row(kind):
    array = pa.array([[0.0] * 3, [1, 2, 3], None, None], kind)
    for part, row in ((array, 102), (array.slice(1), 101)):
        with pytest.raises(InputError, match=rf"file 'a.parquet', row {row} .*column 'vector' is null; drop the row"):
            rows_of(part)
    assert len(rows_of(array.slice(0, 2))) == 2


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 3), pa.list_(pa.float32())])
def test_null_element(kind):
    array = pa.array([[0.0] * 3, [1, 2, 3], [1, None, 3]], kind)
    with pytest.raises(InputError, match=r"row 102 .*column 'vector' holds a null element; drop"):
        rows_of(array)
    with pytest.raises(InputError, match=r"row 101 .*null element"):
        rows_of(array.slice(1))


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_not_finite(value, word, dtype):
    rows = random_rows(4, dtype=dtype)
    rows[2, 2] = value
    with pytest.raises(InputError, match=rf"file 'a.parquet', row 102 .*column 'vector' holds {word}; drop the row"):
        rows_of(embedding_array(rows))


def test_largest_finite_values_pass():
    rows = np.full((2, 3), np.finfo(np.float16).max, np.float16)
    np.testing.assert_array_equal(rows_of(embedding_array(rows)), rows)


@pytest.mark.parametrize(("lengths", "row"), [([3, 2, 4], 101), ([3, 3, 0], 102), ([2, 4, 3], 100)])
def test_ragged_rows(lengths, row):
    array = pa.array([[1.0] * length for length in lengths])
    message = rf"row {row} .*column 'vector' has {lengths[row - 100]} numbers where the pool has 3; .*one model"
    with pytest.raises(InputError, match=message):
        rows_of(array)


def test_ragged_rows_outside_the_slice_do_not_matter():
    array = pa.array([[1.0], [1.0, 2.0, 3.0], [1.0] * 5])
    np.testing.assert_array_equal(rows_of(array.slice(1, 1)), [[1, 2, 3]])


def test_fixed_size_of_another_dimension():
    with pytest.raises(InputError, match=r"row 100 .*has 5 numbers where the pool has 3"):
        rows_of(embedding_array(random_rows(2, dim=5)))


def test_no_rows_are_fine():
    assert rows_of(embedding_array(random_rows(4)).slice(2, 0)).shape == (0, 3)


@pytest.mark.parametrize("row", [[[1.0, 2, 3]], [[4.0, 5, 6]]])
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float32())),
        pa.list_(pa.list_(pa.float32(), 3), 1),
        pa.large_list(pa.list_(pa.float32())),
        pa.list_(pa.large_list(pa.float32())),
        pa.list_view(pa.list_(pa.float32())),
        pa.list_(pa.list_(pa.list_(pa.float32()))),
    ],
    ids=str,
)
def test_lists_of_one_list_are_rows(kind, row):
    deep = pa.types.is_list(kind) and pa.types.is_list(kind.value_type) and pa.types.is_list(kind.value_type.value_type)
    rows = [[[each]] if deep else [each] for each in ([9.0, 9, 9], row[0], [7.0, 8, 9])]
    array = pa.array(rows, kind).slice(1)
    np.testing.assert_array_equal(rows_of(array), [row[0], [7, 8, 9]])
    assert check_embedding_type(kind, "v", "").dtype == np.float32


@pytest.mark.parametrize("kind", [pa.list_view(pa.float32()), pa.large_list_view(pa.float32())], ids=str)
def test_views_of_lists(kind):
    array = pa.array([[1.0] * 3, [1, 2, 3], None, [4, 5]], kind)
    np.testing.assert_array_equal(rows_of(array.slice(0, 2)), [[1, 1, 1], [1, 2, 3]])
    with pytest.raises(InputError, match=r"row 102 .*column 'vector' is null"):
        rows_of(array)
    with pytest.raises(InputError, match=r"row 100 .*column 'vector' has 2 numbers where the pool has 3"):
        rows_of(array.slice(3))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[[1.0] * 3], [[1.0] * 3] * 2], r"row 101 .*'vector' holds 2 lists; an embedding is one list"),
        ([[[1.0] * 3], []], r"row 101 .*'vector' holds 0 lists"),
        ([[[1.0] * 3], [None]], r"row 101 .*'vector' is null"),
        ([[[1.0] * 3], None], r"row 101 .*'vector' is null"),
        ([[[1.0] * 3], [[1.0, 2.0]]], r"row 101 .*'vector' has 2 numbers where the pool has 3"),
    ],
)
def test_lists_of_lists_that_are_no_row(rows, message):
    with pytest.raises(InputError, match=message):
        rows_of(pa.array(rows, pa.list_(pa.list_(pa.float32()))))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1), (1, 4, 1)])
def test_tensors_of_one_dimension(shape):
    rows = random_rows(5, dim=4)
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(rows.reshape(5, *shape))
    assert check_embedding_type(array.type, "v", "") == (np.float32, 4)
    np.testing.assert_array_equal(rows_of(array, 4), rows)


@pytest.mark.parametrize(("row", "problem"), [(None, "is null"), ([], "has no numbers")])
def test_rows_without_dimension(row, problem):
    array = pa.array([row, row], pa.list_(pa.float32()))
    with pytest.raises(InputError, match=rf"file 'a.parquet', row 0 .*'vector' {problem}"):
        usual_dim(array, "vector", "a.parquet")


def test_the_dimension_is_that_of_most_rows():
    array = pa.array([None, [], [1.0], [1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    assert usual_dim(array, "vector", "a.parquet") == 2


@pytest.mark.parametrize(
    "kind",
    [
        pa.float32(),
        pa.list_(pa.int32()),
        pa.list_(pa.list_(pa.int32())),
        pa.list_(pa.list_(pa.float32()), 2),
        pa.string(),
        pa.fixed_shape_tensor(pa.float32(), (2, 2)),
    ],
    ids=str,
)
def test_types_that_are_no_embedding(kind):
    message = rf"file 'a.parquet': embedding column 'vector' has type {re.escape(str(kind))}.*embedding_column"
    with pytest.raises(InputError, match=message):
        check_embedding_type(kind, "vector", "a.parquet")


def test_dimension_zero():
    with pytest.raises(InputError, match=r"file 'a.parquet': embedding column 'vector' has dimension 0"):
        check_embedding_type(pa.list_(pa.float32(), 0), "vector", "a.parquet")


@pytest.mark.parametrize("kind", LIST_KINDS)
def test_embedding_types(kind):
    found = check_embedding_type(embedding_array(random_rows(1, dim=4, dtype="float16"), kind).type, "v", "")
    assert found == (np.float16, 4 if kind in ("fixed", "tensor") else None)


def test_missing_column_names_the_nearest_there_are():
    schema = pa.schema([("tokens", pa.int8()), ("token", pa.int8()), ("x", pa.int8())])
    message = (
        r"no column 'tokns' \(did you mean 'tokens' or 'token'\?\); the columns are tokens, token, x, day; set cost"
    )
    with pytest.raises(InputError, match=message):
        find_column(schema, "tokns", "cost", "", ["day"])


def test_missing_column_lists_the_columns_there_are():
    with pytest.raises(InputError, match=r"file 'a.parquet': no column 'c'; the columns are a, b; set id_column"):
        find_column(pa.schema([("a", pa.int8()), ("b", pa.int8())]), "c", "id_column", "a.parquet")


def test_column_name_used_twice():
    with pytest.raises(InputError, match="2 columns named 'a'"):
        find_column(pa.schema([("a", pa.int8()), ("a", pa.int8())]), "a", "id_column", "")
