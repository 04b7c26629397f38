"""A pool some rows of which cannot be used, beside the same pool without them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.helpers import DIM, Files, clustered

KINDS = ("NaN", "infinity", "null", "null element", "ragged", "empty", "null id", "null cost", "negative cost")
REASONS = {
    "NaN": "column 'embedding' holds NaN",
    "infinity": "column 'embedding' holds infinity",
    "null": "column 'embedding' is null",
    "null element": "column 'embedding' holds a null element",
    "ragged": f"column 'embedding' has {DIM + 1} numbers where the pool has {DIM}",
    "empty": f"column 'embedding' has 0 numbers where the pool has {DIM}",
    "null id": "id column 'id' is null",
    "null cost": "cost is None",
    "negative cost": "cost is -1.0",
}


def spoil(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a row with one thing wrong."""
    numbers = list(row["embedding"])
    wrong: dict[str, dict[str, Any]] = {
        "NaN": {"embedding": [np.nan, *numbers[1:]]},
        "infinity": {"embedding": [*numbers[1:], np.inf]},
        "null": {"embedding": None},
        "null element": {"embedding": [None, *numbers[1:]]},
        "ragged": {"embedding": [*numbers, 1.0]},
        "empty": {"embedding": []},
        "null id": {"id": None},
        "null cost": {"cost": None},
        "negative cost": {"cost": -1.0},
    }
    return {**row, **wrong[kind]}


@dataclass
class Spoiled:
    """Two pools in three files each, a target, and what is wrong with which row."""

    files: Files
    """The spoiled pool and its target."""
    sound: Files
    """The pool without the bad rows."""
    whole: pa.Table
    """All rows of the spoiled pool."""
    rest: pa.Table
    """All rows of the sound pool."""
    wrong: dict[int, str]
    """Row of the pool, counted through its files -> what is wrong with it."""

    def listed(self) -> list[tuple[str, int, Any, str]]:
        """What skipped.parquet should say."""
        third, found = len(self.whole) // 3, []
        for row, kind in sorted(self.wrong.items()):
            part = min(row // third, 2)
            row_id = self.whole.column("id")[row].as_py()
            found.append((f"part-{part}.parquet", row - part * third, row_id, REASONS[kind]))
        return found


def spoiled_pool(folder: Path, wrong: dict[int, str], num_rows: int = 150, text_ids: bool = False) -> Spoiled:
    """Write a pool of some rows, those in `wrong` spoiled; rows have a cost and a kind."""
    rows = clustered(num_rows, seed=1)
    ids = np.random.default_rng(0).permutation(num_rows)
    plain = [
        {
            "id": f"row-{ids[row]}" if text_ids else int(ids[row]),
            "embedding": rows[row].tolist(),
            "cost": 1.0 + row % 3,
            "kind": "ab"[row % 2],
        }
        for row in range(num_rows)
    ]
    schema = pa.schema(
        [
            ("id", pa.string() if text_ids else pa.int64()),
            ("embedding", pa.list_(pa.float32())),
            ("cost", pa.float64()),
            ("kind", pa.string()),
        ]
    )
    whole = pa.Table.from_pylist([spoil(row, wrong[i]) if i in wrong else row for i, row in enumerate(plain)], schema)
    rest = pa.Table.from_pylist([row for i, row in enumerate(plain) if i not in wrong], schema)
    made = []
    for name, table in (("spoiled", whole), ("sound", rest)):
        files = Files(folder / name, num_rows=3)
        third = len(table) // 3
        for part in range(3):
            stop = len(table) if part == 2 else (part + 1) * third
            piece = table.slice(part * third, stop - part * third)
            pq.write_table(piece, files.pool / f"part-{part}.parquet", row_group_size=20)
        made.append(files)
    return Spoiled(made[0], made[1], whole, rest, wrong)
