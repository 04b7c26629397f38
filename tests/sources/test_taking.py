"""Rows by number, also where they are too large for one chunk: lowered here to some bytes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.api import select
from ray_itl.sources import taking
from ray_itl.sources.open import open_source
from ray_itl.sources.taking import take_rows

ROWS = 40
_bytes = [bytes([row]) * (row % 7) for row in range(ROWS)]
COLUMNS = {
    "binary": pa.array(_bytes, pa.binary()),
    "large": pa.array(_bytes, pa.large_binary()),
    "text": pa.array([None if row % 5 == 0 else "x" * row for row in range(ROWS)]),
    "number": pa.array(np.arange(ROWS)),
    "list": pa.array([[row] * (row % 3) for row in range(ROWS)]),
    "struct": pa.array([{"bytes": each, "path": None} for each in _bytes]),
    "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * ROWS)), 2),
    "category": pa.array(["a", "b"] * (ROWS // 2)).dictionary_encode(),
}
TABLE = pa.concat_tables([pa.table(COLUMNS).slice(0, 13), pa.table(COLUMNS).slice(13)])


@given(st.lists(st.integers(0, ROWS - 1)), st.sampled_from([1, 30, 500, 10_000]))
def test_rows_are_those_of_a_plain_take(rows: list[int], most: int) -> None:
    numbers = np.array(rows, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking, "_CHUNK_BYTES", most)
        found = take_rows(TABLE, numbers)
    found.validate(full=True)
    assert found.equals(TABLE.take(pa.array(numbers)))


def test_chunks_are_no_larger_than_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "_CHUNK_BYTES", 200)
    found = take_rows(TABLE, np.arange(ROWS)[::-1])
    assert all(chunk.nbytes <= 200 for column in found.columns for chunk in column.chunks if len(chunk) > 1)
    assert found.column("binary").num_chunks > 1


def test_a_selection_carries_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((ROWS, 4)).astype(np.float32)
    table = TABLE.append_column("id", pa.array(range(ROWS))).append_column("embedding", pa.array(rows.tolist()))
    table = table.set_column(
        table.column_names.index("embedding"), "embedding", pa.array(rows.tolist(), pa.list_(pa.float32()))
    )
    pq.write_table(table, tmp_path / "pool.parquet", row_group_size=7)
    names = list(COLUMNS)
    expected = select(tmp_path / "pool.parquet", rows[:5], 30, columns=names)
    monkeypatch.setattr(taking, "_CHUNK_BYTES", 300)
    for pool in (tmp_path / "pool.parquet", table):
        found = select(pool, rows[:5], 30, columns=names, run_dir=tmp_path / f"run-{type(pool).__name__}")
        assert found.table.select(names).equals(expected.table.select(names))
        again = select(pool, rows[:5], 30, columns=names, run_dir=tmp_path / f"run-{type(pool).__name__}")
        assert again.table.select(["id", *names]).equals(found.table.select(["id", *names]))
        assert len(found.to_pandas()) == 30
        assert found.to_torch(["binary", "text", "number", "fixed"], transform=dict)[3]["number"] is not None


@pytest.mark.slow
def test_more_than_two_gibibytes(tmp_path: Path) -> None:
    """1,050 picks of 2 MiB; takes some 6 GiB of memory."""
    count, rng = 1100, np.random.default_rng(7)
    rows = rng.standard_normal((count, 8)).astype(np.float32)
    schema = pa.schema([("id", pa.int64()), ("embedding", pa.list_(pa.float32())), ("image", pa.binary())])
    with pq.ParquetWriter(tmp_path / "p.parquet", schema, compression="zstd", use_dictionary=False) as writer:
        for first in range(0, count, 100):
            some = range(first, first + 100)
            images = [row.to_bytes(4, "little") + bytes(2 << 20) for row in some]
            columns = {"id": list(some), "embedding": rows[first : first + 100].tolist(), "image": images}
            writer.write_table(pa.table(columns, schema=schema))
    found = select(tmp_path / "p.parquet", rows[:5], 1050, columns=["image"], run_dir=tmp_path / "run")
    ids = found.ids
    for table in (found.table, pq.read_table(tmp_path / "run" / "selection.parquet")):
        image = table.column("image")
        assert image.nbytes > 2**31
        numbers = [int.from_bytes(image[rank].as_py()[:4], "little") for rank in range(0, 1050, 50)]
        assert numbers == ids[::50]
    assert open_source(tmp_path / "p.parquet", id_column="id").num_rows == count
