import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.errors import InputError
from ray_itl.sources.targets import read_targets
from tests.sources.helpers import embedding_array, pool_table, random_rows, write_pool


def weighted(weights) -> pa.Table:
    return pool_table(random_rows(3)).append_column("weight", pa.array(weights))


def test_files_tables_arrays_and_tensors(tmp_path):
    rows = write_pool(tmp_path, [5, 9])
    for target in (tmp_path, f"{tmp_path}/*.parquet", pool_table(rows), rows, torch.from_numpy(rows)):
        targets = read_targets(target)
        assert targets.embeddings.dtype == np.float64
        np.testing.assert_array_equal(targets.embeddings, rows)
        assert targets.weights is None
        assert targets.ids is None


def test_ids_and_weights(tmp_path):
    for number in range(2):
        table = weighted([number, 0, 2]).set_column(0, "id", pa.array([f"{number}{row}" for row in "abc"]))
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=2)
    targets = read_targets(tmp_path, weight_column="weight", id_column="id")
    assert targets.weights is not None
    assert targets.ids is not None
    assert targets.weights.dtype == np.float64
    assert targets.weights.tolist() == [0, 0, 2, 1, 0, 2]
    assert targets.ids.tolist() == ["0a", "0b", "0c", "1a", "1b", "1c"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, float("nan"), 1.0], "row 1 .*weight column 'weight' is nan"),
        ([1.0, 1.0, float("inf")], "row 2 .*weight column 'weight' is inf"),
        ([-0.5, 1.0, 1.0], "row 0 .*weight column 'weight' is -0.5"),
        ([1, None, 1], "row 1 .*weight column 'weight' is None"),
    ],
)
def test_wrong_weight_names_file_and_row(tmp_path, weights, message):
    pq.write_table(weighted(weights), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"^targets: file 'a.parquet', {message}; a weight is a finite number"):
        read_targets(tmp_path, weight_column="weight")


def test_weights_that_are_all_zero():
    with pytest.raises(InputError, match=r"^targets: weight column 'weight' is zero in every row"):
        read_targets(weighted([0, 0, 0]), weight_column="weight")


def test_weights_that_are_not_numbers():
    with pytest.raises(InputError, match=r"^targets: weight column 'weight' has type string"):
        read_targets(weighted(["1", "2", "3"]), weight_column="weight")


def test_missing_weight_column():
    with pytest.raises(
        InputError, match=r"^targets: no column 'importance'; the columns are id, embedding, text, weight"
    ):
        read_targets(weighted([1, 2, 3]), weight_column="importance")


def test_array_with_a_weight_column():
    with pytest.raises(InputError, match=r"^targets: an array has no columns"):
        read_targets(random_rows(3), weight_column="weight")


def test_array_with_an_id_column():
    with pytest.raises(InputError, match=r"^targets: an array has no columns"):
        read_targets(random_rows(3), id_column="id")


def test_empty_targets(tmp_path):
    write_pool(tmp_path, [0])
    with pytest.raises(InputError, match=r"^targets: the files under .* have no rows"):
        read_targets(tmp_path)
    with pytest.raises(InputError, match=r"^targets: the table has no rows"):
        read_targets(pool_table(random_rows(0)))
    with pytest.raises(InputError, match=r"^targets: the array has shape .*holds nothing"):
        read_targets(random_rows(0))


def test_bad_row_is_named(tmp_path):
    rows = random_rows(4)
    rows[2] = np.nan
    pq.write_table(pa.table({"embedding": embedding_array(rows)}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"^targets: file 'a.parquet', row 2 .*holds NaN"):
        read_targets(tmp_path)
