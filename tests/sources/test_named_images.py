"""Images that datasets keeps as paths are read where their rows are: in memory and in saved datasets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.named_images import MOST_ROWS
from ray_itl.sources.open import open_raw_rows, readable

datasets = pytest.importorskip("datasets")
NUM_IMAGES = MOST_ROWS + 6


@pytest.fixture
def dataset(tmp_path: Path):
    datasets.disable_progress_bars()
    for k in range(NUM_IMAGES):
        (tmp_path / f"{k:02}.png").write_bytes(f"image {k}".encode())
    paths = [str(tmp_path / f"{k:02}.png") for k in range(NUM_IMAGES)]
    return datasets.Dataset.from_dict({"image": paths, "k": list(range(NUM_IMAGES))}).cast_column(
        "image", datasets.Image(decode=False)
    )


def test_they_have_their_bytes_however_rows_are_read(dataset, tmp_path: Path) -> None:
    dataset.save_to_disk(tmp_path / "saved")
    expected = [f"image {k}".encode() for k in range(NUM_IMAGES)]
    for pool in (readable(dataset, "pool"), str(tmp_path / "saved")):
        rows = open_raw_rows(pool, id_column="id", columns=["image", "k"])
        found = [row["bytes"] for _, b in rows.row_batches(0, NUM_IMAGES, ["image"]) for row in b.column(0).to_pylist()]
        assert found == expected
        some = np.array([69, 3])
        assert [row["image"]["bytes"] for row in rows.take(some, ["k", "image"]).to_pylist()] == [
            expected[k] for k in some
        ]
        at = [
            row["bytes"] for _, b in rows.row_batches_at(np.arange(3, 68), ["image"]) for row in b.column(0).to_pylist()
        ]
        assert at == expected[3:68]
        assert rows.take(some, ["k"]).column(0).to_pylist() == some.tolist()


def test_only_images_are_read_and_those_that_are_gone_are_named(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"secret")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = [{"bytes": None, "path": str(tmp_path / "secret.key")}, {"bytes": b"own", "path": "gone.png"}, None]
    rows = open_raw_rows(pa.table({"image": pa.array(values, kind)}), id_column="id", columns=["image"])
    assert rows.take(np.arange(3), ["image"]).column(0).to_pylist() == values
    gone = pa.table({"image": pa.array([{"bytes": None, "path": str(tmp_path / "gone.png")}], kind)})
    with pytest.raises(InputError, match=r"gone\.png' is gone"):
        open_raw_rows(gone, id_column="id", columns=["image"]).take(np.arange(1), ["image"])
