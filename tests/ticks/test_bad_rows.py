"""Rows that cannot be used, in pools that grow: passed over in the tick that finds them, and in every later one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.sources.bad_rows import BadRowsError
from ray_itl.ticks.state import State
from ray_itl.ticks.tick import summarise_tick
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.ticks.helpers import Growing, dense_ticks

SKIP = {"on_bad_row": "skip"}


def spoil(growing: Growing, part: int, rows: list[int]) -> pa.Table:
    """Make rows of a part NaN; returns it without them."""
    path = growing.pool / f"part-{part:02d}.parquet"
    table = pq.read_table(path)
    numbers = np.array(table.column("embedding").to_pylist(), dtype=np.float32)
    numbers[rows] = np.nan
    lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])
    pq.write_table(table.set_column(1, "embedding", lists), path, row_group_size=25)
    return table.filter(pa.array(~np.isin(np.arange(len(table)), rows)))


@pytest.mark.parametrize("candidates", ["new", "all"])
def test_ticks_pick_as_without_the_bad_rows(tmp_path: Path, candidates: str) -> None:
    growing = Growing(tmp_path / "growing")
    sound = {}
    for tick, part in enumerate((0, 1, 2)):
        growing.grow(part)
        sound[part] = spoil(growing, part, [3 * part, 40, 59])
        if tick == 1:
            with pytest.raises(BadRowsError, match=r"^3 rows cannot be used|^6 rows cannot be used"):
                growing.tick(f"{tick}", state={"candidates": candidates})
        done = growing.tick(f"{tick}", pool=SKIP, state={"candidates": candidates})
        number = 3 if candidates == "new" else 3 * (part + 1)
        assert done.skipped_rows == number
        assert f"({number} rows that cannot be used passed over)" in summarise_tick(done).headline
        taken = 5 * tick if candidates == "all" else 0
        assert done.record.candidate_rows == (57 if candidates == "new" else 57 * (part + 1)) - taken
        table = State(growing.location).store.read_table(f"{done.record.path}/skipped.parquet")
        assert len(table) == number
    picks = growing.all_picks()
    for record in growing.records():
        assert verify(VerifySettings(run=FinishedRun(f"{growing.location}/{record.path}"))).right
    for part, table in sound.items():
        pq.write_table(table, growing.pool / f"part-{part:02d}.parquet")
    assert picks == dense_ticks(growing, [[0], [1], [2]], 5, candidates)


def test_news_of_bad_rows_alone_are_nothing_to_pick(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "growing", rows=4)
    growing.grow(0)
    growing.tick("0", n=2)
    growing.grow(1)
    spoil(growing, 1, [0, 1, 2, 3])
    done = growing.tick("1", n=2, pool=SKIP)
    record = done.record
    assert (record.picks, done.skipped_rows, record.candidate_rows, record.stop) == (0, 4, 0, "no_rows")
    growing.grow(2)
    assert growing.tick("2", n=2, pool=SKIP).record.picks == 2
