"""Held-out rows over ticks: each tick keeps what is near them out of its picks, and may be given others."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ray_itl.ticks.state import State
from ray_itl.ticks.tick import summarise_tick
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.helpers import table_of
from tests.ticks.helpers import Growing


def test_no_tick_picks_what_is_held_out(tmp_path: Path) -> None:
    growing, picked = Growing(tmp_path / "growing"), []
    growing.grow(0, 1)
    rows = [pq.read_table(growing.pool / f"part-0{part}.parquet") for part in (0, 1)]
    copies = np.array([rows[part].column("embedding")[row].as_py() for part, row in ((0, 3), (1, 9), (1, 10))])
    pq.write_table(table_of(copies.astype(np.float32)), tmp_path / "test.parquet")
    heldout = {"path": str(tmp_path / "test.parquet"), "max_similarity": 0.999999}
    (growing.pool / "part-01.parquet").rename(tmp_path / "later.parquet")
    for tick, number in (("1", 1), ("2", 2)):
        if tick == "2":
            (tmp_path / "later.parquet").rename(growing.pool / "part-01.parquet")
        done = growing.tick(tick, n=58, heldout=heldout)
        assert (done.record.picks, done.record.candidate_rows, done.heldout_rows) == (58, 60 - number, number)
        assert f"({number} rows nearly equal to held-out ones excluded)" in summarise_tick(done).headline
        assert growing.tick(tick, n=58, heldout=heldout).heldout_rows == number
        table = State(growing.location).store.read_table(f"{done.record.path}/heldout.parquet")
        picked += table.column("id").to_pylist()
        assert verify(VerifySettings(FinishedRun(f"{growing.location}/{done.record.path}"))).right
    assert picked == [rows[0].column("id")[3].as_py(), *rows[1].column("id").take([9, 10]).to_pylist()]
    growing.grow(2)
    assert growing.tick("3").record.picks == 5, "a later tick may hold out nothing"
