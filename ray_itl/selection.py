"""What a selection returns: the picks as a table, what they were worth, and how the run went."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.core.greedy import GreedyStats

RESERVED_COLUMNS = ("rank", "id", "gain", "cumulative_gain", "file", "row")


@dataclass(frozen=True)
class Selection:
    """The n picked rows, best first.

    `table` has rank (from 1), id, gain (worth of the pick given those before it, in `unit`), cumulative_gain, file and
    row (counted from 0 in that file; file is "" for a pool in memory), and the columns asked for.
    """

    table: pa.Table
    unit: str
    """"nats", or "variance" for VTL."""
    remaining_uncertainty: np.ndarray
    """Share of the targets' prior variance left after 0..n picks, n + 1 float64."""
    stats: GreedyStats
    metrics: dict[str, Any] = field(default_factory=dict)
    run_dir: Path | None = None

    @property
    def ids(self) -> list[int | str]:
        """Row ids in order of rank."""
        return self.table.column("id").to_pylist()

    @property
    def gains(self) -> np.ndarray:
        """Gain of each pick, n float64."""
        return self.table.column("gain").to_numpy()

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        total, left = float(self.gains.sum()), float(self.remaining_uncertainty[-1])
        where = "" if self.run_dir is None else f", run_dir={str(self.run_dir)!r}"
        return f"Selection({len(self)} rows, {total:.4g} {self.unit}, {left:.1%} of target variance left{where})"
