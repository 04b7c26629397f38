"""Embedding in parts gives every row its own embedding and goes on after an interruption."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.experiments.cache import as_matrix, silent
from ray_itl.experiments.frozen_features import embed_in_parts

N, PER_PART = 23, 5
TABLE = pa.table({"id": [f"row {number}" for number in range(N)], "label": np.arange(N) % 3})
ORDER = np.random.default_rng(0).permutation(N)


class Embedder:
    """Embeds row r as (r, 2 r); fails from the part `fail_at` on."""

    def __init__(self, fail_at: int | None = None):
        self.calls: list[list[int]] = []
        self.fail_at = fail_at

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(rows.tolist())
        return np.stack([rows, 2 * rows], 1).astype(np.float16)


def _check(output: Path) -> None:
    table = pq.read_table(output)
    assert table.drop_columns(["embedding"]).equals(TABLE)
    np.testing.assert_array_equal(as_matrix(table["embedding"]), np.stack([np.arange(N), 2 * np.arange(N)], 1))
    assert table["embedding"].type == pa.list_(pa.float16(), 2)


def test_every_row_gets_its_embedding(tmp_path: Path) -> None:
    embedder, said = Embedder(), []
    embed_in_parts(TABLE, ORDER, embedder, tmp_path / "out.parquet", PER_PART, said.append)
    _check(tmp_path / "out.parquet")
    assert [len(rows) for rows in embedder.calls] == [5, 5, 5, 5, 3]
    assert len(said) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_finished_parts_are_kept_after_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed_in_parts(TABLE, ORDER, Embedder(fail_at=3), tmp_path / "out.parquet", PER_PART, silent)
    assert not (tmp_path / "out.parquet").exists()
    embedder = Embedder()
    embed_in_parts(TABLE, ORDER, embedder, tmp_path / "out.parquet", PER_PART, silent)
    _check(tmp_path / "out.parquet")
    assert [len(rows) for rows in embedder.calls] == [5, 3]


def test_parts_of_other_rows_are_not_used(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed_in_parts(TABLE, ORDER[::-1], Embedder(fail_at=3), tmp_path / "out.parquet", PER_PART, silent)
    embedder = Embedder()
    embed_in_parts(TABLE, ORDER, embedder, tmp_path / "out.parquet", PER_PART, silent)
    _check(tmp_path / "out.parquet")
    assert len(embedder.calls) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        embed_in_parts(
            TABLE, ORDER, lambda rows: np.full((len(rows), 2), value), tmp_path / "out.parquet", PER_PART, silent
        )


def test_missing_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        embed_in_parts(TABLE, ORDER, lambda _: np.zeros((1, 2)), tmp_path / "out.parquet", PER_PART, silent)
