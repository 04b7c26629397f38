"""The durable steps of one round, each a file that is either whole or absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.core.trajectory import Pick
from ray_itl.errors import RunDirectoryError
from ray_itl.io.atomic import write_json, write_parquet_table


class RoundFolder:
    """rounds/0007 of a run directory: what was picked, how it was labelled, the checkpoint, and the figures.

    Steps are done in this order and never redone: candidates.parquet (in rounds that score the whole pool for its best
    candidates), selection.parquet, labels.parquet (or what `label_files` finds), examples.safetensors,
    checkpoint.safetensors, round.json.
    """

    def __init__(self, run: Path, number: int) -> None:
        """Name the folder of round `number` (from 1); nothing is created yet."""
        self.number = number
        self.path = run / "rounds" / f"{number:04d}"
        self.labels = self.path / "labels.parquet"
        self.to_label = self.path / "to_label.parquet"
        self.to_label_table = self.path / "to_label.csv"
        self.to_label_page = self.path / "to_label.html"
        self.examples = self.path / "examples.safetensors"
        self.checkpoint = self.path / "checkpoint.safetensors"

    def create(self) -> None:
        """Make the folder if it is not there."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"cannot make {self.path} ({error.strerror}): free the run directory") from error

    def read_picks(self) -> list[Pick] | None:
        """Return what was picked, or None if nothing has been."""
        table = self._read("selection.parquet")
        if table is None:
            return None
        columns = (table.column(name).to_pylist() for name in ("position", "id", "gain"))
        return [Pick(*values) for values in zip(*columns, strict=True)]

    def write_picks(self, picks: Sequence[Pick], id_type: pa.DataType, where: tuple[list[str], np.ndarray]) -> None:
        """Make the round's picks durable; a gain that no rule gave (nan) becomes null."""
        gains = [pick.gain for pick in picks]
        write_parquet_table(
            self.path / "selection.parquet",
            pa.table(
                {
                    "rank": pa.array(np.arange(1, len(picks) + 1)),
                    "id": pa.array([pick.row_id for pick in picks], id_type),
                    "gain": pa.array(gains, pa.float64(), from_pandas=True),
                    "position": pa.array([pick.position for pick in picks], pa.int64()),
                    "file": pa.array(where[0], pa.string()),
                    "row": pa.array(where[1], pa.int64()),
                }
            ),
        )

    def label_files(self) -> list[Path]:
        """Return the files that give labels, by name: labels.parquet, labels.csv, and what begins like them.

        A browser calls the second file that it saves "labels (1).csv", and several people have one each.
        """
        return sorted(path for kind in ("csv", "parquet") for path in self.path.glob(f"labels*.{kind}"))

    def read_candidates(self) -> np.ndarray | None:
        """Return positions of the best rows of the scoring made in this round, or None."""
        table = self._read("candidates.parquet")
        return None if table is None else table.column("position").to_numpy()

    def write_candidates(self, positions: np.ndarray) -> None:
        """Make a scoring durable: positions of its best rows."""
        write_parquet_table(self.path / "candidates.parquet", pa.table({"position": pa.array(positions)}))

    def read_record(self) -> dict[str, Any] | None:
        """Return the round's figures if it is finished, or None."""
        path = self.path / "round.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error

    def write_record(self, record: dict[str, Any]) -> None:
        """Finish the round."""
        write_json(self.path / "round.json", record)

    def _read(self, name: str) -> pa.Table | None:
        path = self.path / name
        if not path.exists():
            return None
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error
