"""A list of rows nearly equal to held-out ones that is tampered with is found out."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.curation.test_heldout import hold_out
from tests.helpers import Files
from tests.verification.test_verification import check, put

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """The list of a finished run."""
    files = Files(tmp_path)
    files.run(files.settings(heldout=hold_out(files)))
    return tmp_path / "run" / "heldout.parquet"


def _found(path: Path, table: pa.Table) -> str:
    pq.write_table(table, path)
    metrics = json.loads((path.parent / "metrics.json").read_text())
    (path.parent / "metrics.json").write_text(json.dumps({**metrics, "heldout_rows": len(table)}))
    return check(path.parent).summary().text


def test_a_row_left_out(listed: Path) -> None:
    found = _found(listed, pq.read_table(listed).slice(1))
    assert "heldout.parquet misses file 'part-0.parquet', row 5 " in found


def test_a_row_put_in(listed: Path) -> None:
    found = _found(listed, put(pq.read_table(listed), "row", 0, 6))
    assert "heldout.parquet lists file 'part-0.parquet', row 6 (counting from 0), which is not nearly" in found


@pytest.mark.parametrize(("column", "value"), [("similarity", 0.99995), ("reason", "same text")])
def test_another_value(listed: Path, column: str, value: object) -> None:
    found = _found(listed, put(pq.read_table(listed), column, 1, value))
    assert "heldout.parquet says of file 'part-0.parquet', row 77 (counting from 0) what is not so" in found


def test_a_count_that_is_not_that_of_the_list(listed: Path) -> None:
    metrics = json.loads((listed.parent / "metrics.json").read_text())
    (listed.parent / "metrics.json").write_text(json.dumps({**metrics, "heldout_rows": 4}))
    assert "heldout.parquet lists 5 rows, metrics.json 4" in check(listed.parent).summary().text
