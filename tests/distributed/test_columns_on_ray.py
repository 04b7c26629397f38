"""Shards on Ray read columns of folders, of types that differ and ids of databases as this process does."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from tests.helpers import Files, clustered

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster", "small_blocks")]


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_shards_read_what_this_process_reads(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    files = Files(tmp_path)
    for part, (lang, dtype) in enumerate((("en", np.float32), ("de", np.float64), ("en", np.float16))):
        path = files.pool / f"part-{part}.parquet"
        table = pq.read_table(path)
        ids = pa.array([2**63 + number for number in table.column("id").to_pylist()], pa.uint64())
        rows = np.array(table.column("embedding").to_pylist()).astype(dtype)
        table = table.set_column(0, "id", ids)
        kind = pa.list_(pa.list_(pa.from_numpy_dtype(rows.dtype)))
        table = table.set_column(1, "embedding", pa.array([[row] for row in rows], kind))
        (files.pool / f"lang={lang}").mkdir(exist_ok=True)
        pq.write_table(table, files.pool / f"lang={lang}" / path.name, row_group_size=40)
        path.unlink()
    options: dict[str, Any] = {"quotas": {"lang": {"de": {"max": 2}}}, "columns": ["lang", "text"], "storage": storage}
    target = clustered(12, seed=2)
    expected = select(files.pool, target, 15, explain=True, **options).table
    found = select(files.pool, target, 15, explain=True, num_shards=3, **options).table
    assert found.select(["id", "file", "row", "lang", "text", "runner_up"]).equals(
        expected.select(["id", "file", "row", "lang", "text", "runner_up"])
    )
    assert min(found.column("id").to_pylist()) >= 2**63
