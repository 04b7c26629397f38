"""Small pools with a task in them, as tables and as files, and runs on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.run import curate
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings, SelectionSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.observability.reporter import Reporter
from ray_itl.selection import Selection
from ray_itl.sources.settings import PoolSettings, TargetSettings

DIM = 8
SMALL_BLOCKS = BlockSchedule(block=4, candidates=32, max_block=4, max_candidates=64)
"""Several passes and some challengers even on a few hundred rows."""


def clustered(num_rows: int, seed: int) -> np.ndarray:
    """Rows around six centres, of norm about 1: float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((6, DIM))
    rows = centres[rng.integers(6, size=num_rows)] + 0.4 * rng.standard_normal((num_rows, DIM))
    return (rows / DIM**0.5).astype(np.float32)


def table_of(rows: np.ndarray, first_id: int = 0, text_ids: bool = False) -> pa.Table:
    """Rows with ids, weights and a column to carry; ids are in no order."""
    numbers = np.random.default_rng(first_id).permutation(len(rows)) + first_id
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    ids = pa.array([f"row-{i}" for i in numbers] if text_ids else numbers)
    weight = pa.array(1.0 + np.arange(len(rows)) % 3)
    text = pa.array([f"text {i}" for i in numbers])
    return pa.table({"id": ids, "embedding": embedding, "weight": weight, "text": text})


class Files:
    """A pool in three files, a target sample and known rows, in a folder."""

    def __init__(self, folder: Path, num_rows: int = 300, text_ids: bool = False) -> None:
        self.folder = folder
        self.pool, self.target, self.known = (folder / name for name in ("pool", "target.parquet", "known.parquet"))
        self.pool.mkdir(parents=True)
        self.table = table_of(clustered(num_rows, seed=1), text_ids=text_ids)
        third = num_rows // 3
        for k in range(3):
            pq.write_table(self.table.slice(k * third, third), self.pool / f"part-{k}.parquet", row_group_size=40)
        pq.write_table(table_of(clustered(12, seed=2)), self.target)
        pq.write_table(table_of(clustered(9, seed=3)), self.known)

    def settings(self, run: str | None = "run", n: int = 12, **changes: Any) -> CurationSettings:
        """Options of a run without report; `changes` are group -> options."""
        base = CurationSettings(
            pool=PoolSettings(path=str(self.pool)),
            target=TargetSettings(path=str(self.target)),
            acquisition=AcquisitionSettings(noise_variance=1.0),
            selection=SelectionSettings(n=n),
            cluster=ClusterSettings(num_shards=0),
            run=RunSettings(None if run is None else str(self.folder / run), report=False, log="quiet"),
        )
        return replace(base, **{group: replace(getattr(base, group), **options) for group, options in changes.items()})

    def run(self, settings: CurationSettings, reporter: Reporter | None = None) -> Selection:
        return curate(settings, reporter=reporter)
