"""Folders of images are embedded as the same images in a column of Parquet; bad ones are named by their paths."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.embedding.job import embed_pool
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    OutputSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.sources.bad_rows import BadRowsError
from tests.embedding.test_bad_raw_rows import picture

MODEL = EmbeddingModelSettings("mnist_cnn", {"widths": [2, 2, 2], "features": 5})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images in three folders, in the order of their paths."""
    for number in range(12):
        path = tmp_path / "images" / "abc"[number // 4] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return tmp_path / "images"


def embed(pool: Path, run: Path, on_bad_row: str = "refuse", columns: tuple[str, ...] = ("label",)) -> pa.Table:
    embed_pool(
        EmbedJobSettings(
            RawPoolSettings(str(pool), raw_column="image", columns=list(columns), on_bad_row=on_bad_row),
            MODEL,
            output=OutputSettings(part_rows=3),
            cluster=WorkerSettings(num_workers=0),
            run=EmbedRunSettings(str(run), log="quiet"),
        )
    )
    return pa.concat_tables(pq.read_table(path) for path in sorted((run / "embeddings").glob("*.parquet")))


def rows_of(table: pa.Table) -> dict[str, tuple[str, list[float]]]:
    columns = [table.column(name).to_pylist() for name in ("id", "label", "embedding")]
    return {name: (label, row) for name, label, row in zip(*columns, strict=True)}


def test_a_folder_is_embedded_as_a_column_of_images(folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.rglob("*.png"))
    images = pa.array([path.read_bytes() for path in paths], pa.binary())
    names = [str(path.relative_to(folder)) for path in paths]
    labels = [path.parent.name for path in paths]
    pq.write_table(pa.table({"id": names, "image": images, "label": labels}), tmp_path / "images.parquet")
    expected, found = (
        rows_of(embed(tmp_path / "images.parquet", tmp_path / "a")),
        rows_of(embed(folder, tmp_path / "b")),
    )
    assert list(found) == list(expected) == names
    for name in names:
        assert found[name][0] == expected[name][0]
        np.testing.assert_allclose(found[name][1], expected[name][1], rtol=1e-5, atol=1e-6)


def test_images_that_cannot_be_read_are_named_or_passed_over(folder: Path, tmp_path: Path) -> None:
    (folder / "b" / "05.png").write_bytes(b"")
    (folder / "b" / "06.png").write_bytes(picture(6)[:90])
    with pytest.raises(
        BadRowsError, match=r"2 rows .*file 'b/05\.png': .*cannot be read as an image.*; file 'b/06\.png': "
    ):
        embed(folder, tmp_path / "refused")
    table = embed(folder, tmp_path / "run", on_bad_row="skip")
    assert table.num_rows == 10
    skipped = pq.read_table(tmp_path / "run" / "skipped.parquet")
    assert skipped.column("id").to_pylist() == ["b/05.png", "b/06.png"]
    assert skipped.column("file").to_pylist() == ["b/", "b/"]
