from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.loaded.cases import TABLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the table as two files."""
    pool = tmp_path / "pool"
    pool.mkdir()
    pq.write_table(TABLE.slice(0, 150), pool / "a.parquet", row_group_size=40)
    pq.write_table(TABLE.slice(150), pool / "b.parquet", row_group_size=40)
    return pool
