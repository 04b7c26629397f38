"""Datasets that Hugging Face's save_to_disk wrote: their rows, splits refused, files of an earlier saving left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.open import open_raw_rows, open_source
from ray_itl.sources.parquet import ParquetRows
from tests.sources.helpers import random_rows

datasets = pytest.importorskip("datasets")
NUM_ROWS, DIM = 2300, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`, saved twice; `splits` of a DatasetDict."""
    root = tmp_path_factory.mktemp("saved")
    datasets.disable_progress_bars()
    rows = random_rows(NUM_ROWS, DIM)
    columns = {
        "text": [f"row {i}" for i in range(NUM_ROWS)],
        "embedding": rows,
        "kind": [i % 2 for i in range(NUM_ROWS)],
    }
    dataset = datasets.Dataset.from_dict(columns).cast_column("kind", datasets.ClassLabel(names=["a", "b"]))
    dataset.select(range(500)).save_to_disk(root / "one", num_shards=3)
    dataset.select(range(NUM_ROWS)[::-1]).save_to_disk(root / "one", num_shards=2)
    datasets.DatasetDict(train=dataset, test=dataset.select(range(7))).save_to_disk(root / "splits")
    return root


def texts(rows: Any, positions: np.ndarray) -> list[str]:
    return rows.take(positions, ["text"]).column(0).to_pylist()


def test_rows_are_those_that_were_saved_last(folder: Path) -> None:
    source = open_source(str(folder / "one"), id_column="id", columns=["text", "kind"])
    assert (source.num_rows, source.dim, source.id_kind) == (NUM_ROWS, DIM, "string")
    some = np.array([2299, 0, 1150, 1001, 999])
    assert texts(source, some) == [f"row {NUM_ROWS - 1 - k}" for k in some]
    ids, rows = map(np.concatenate, zip(*source.batches(0, NUM_ROWS), strict=True))
    assert np.array_equal(rows, random_rows(NUM_ROWS, DIM)[::-1])
    assert ids[1200] == "data-00001-of-00002.arrow:50"
    assert np.array_equal(source.embeddings(some), random_rows(NUM_ROWS, DIM)[::-1][some])


def test_one_split_is_a_pool_and_all_of_them_are_refused(folder: Path) -> None:
    splits = folder / "splits"
    for path in (splits / "test", splits / "test" / "data-00000-of-00001.arrow", splits / "test" / "*.arrow"):
        assert texts(open_raw_rows(str(path), id_column="id", columns=["text"]), np.arange(7))[6] == "row 6"
    for path in (splits, splits / "*" / "*.arrow"):
        with pytest.raises(InputError, match=r"has several splits \(train, test\): name one, as .*splits/train"):
            open_raw_rows(str(path), id_column="id")


def test_versions_and_filesystems_that_it_has_not_are_refused(folder: Path) -> None:
    from ray_itl.io.listing import PoolPaths

    assert open_raw_rows(PoolPaths((str(folder / "one"),), version=0), id_column="id").num_rows == NUM_ROWS
    with pytest.raises(InputError, match=r"has no versions: leave out pool\.version"):
        open_raw_rows(PoolPaths((str(folder / "one"),), version=3), id_column="id")
    with pytest.raises(InputError, match=r"is an Arrow file on a filesystem that is no mount"):
        open_raw_rows(f"fsspec+local://{folder / 'one'}", id_column="id")


def test_a_file_that_is_damaged_or_replaced_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes((folder / "splits" / "test" / "data-00000-of-00001.arrow").read_bytes())
    rows = open_raw_rows(str(path), id_column="id", columns=["text"])
    assert isinstance(rows, ParquetRows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.schema({"text": pa.string()})) as writer:
        writer.write_batch(pa.record_batch({"text": [f"{k}" for k in range(7)]}))
    with pytest.raises(InputError, match=r"'a\.arrow' was replaced"):
        texts(rows, np.arange(7))
    path.write_bytes(b"no stream at all")
    with pytest.raises(InputError, match=r"'a\.arrow' cannot be read as an Arrow stream, as datasets writes it"):
        open_raw_rows(str(path), id_column="id", filesystem=pafs.LocalFileSystem())
