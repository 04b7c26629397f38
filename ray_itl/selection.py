"""What a selection returns: the picks as a table, what they were worth, and how the run went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ray_itl.core.result import GreedyStats
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.extras import load_extra
from ray_itl.handover import PickedRows, Transform, hugging_face_dataset, picked_rows
from ray_itl.notebook import table_html
from ray_itl.report.gain_figure import gain_figure

if TYPE_CHECKING:
    import pandas as pd

PICKS_FILE = "picks.safetensors"

RESERVED_COLUMNS = ("rank", "id", "gain", "cumulative_gain", "file", "row", "near_target")
EXPLANATION_COLUMNS = (
    "nearest_targets",
    "nearest_target_similarity",
    "informed_targets",
    "informed_target_share",
    "nearest_earlier",
    "nearest_earlier_similarity",
    "runner_up",
    "runner_up_margin",
)
"""What `selection.explain` adds; see `explanation.explanation_schema`."""


@dataclass(frozen=True)
class Selection:
    """The n picked rows, best first.

    `table` has rank (from 1), id, gain (worth of the pick given those before it, in `unit`), cumulative_gain, file and
    row (counted from 0 in that file; file is "" for a pool in memory), cost (where costs were given), near_target
    (whether the row is nearly equal to a target), the columns
    asked for, and those of `explanation.explanation_schema` where asked for.
    """

    table: pa.Table
    unit: str
    """"nats", or "variance" for VTL."""
    remaining_uncertainty: np.ndarray
    """Share of the targets' prior variance left after 0..n picks, n + 1 float64."""
    stats: GreedyStats
    metrics: dict[str, Any] = field(default_factory=dict)
    run_dir: Path | None = None
    picked_features: Tensor | None = field(default=None, repr=False, compare=False)
    """n x D as the shards held them; None for one that was read from its files (see `features`)."""

    @property
    def ids(self) -> list[int | str]:
        """Row ids in order of rank."""
        return self.table.column("id").to_pylist()

    @property
    def gains(self) -> np.ndarray:
        """Gain of each pick, n float64."""
        return self.table.column("gain").to_numpy()

    @property
    def features(self) -> Tensor:
        """Features of the picks in order of rank, n x D as the shards held them.

        Raises:
            RunDirectoryError: they are in the run directory only, and cannot be read there.
            InputError: a selection made by hand has none.
        """
        if self.picked_features is not None:
            return self.picked_features
        if self.run_dir is None:
            raise InputError("this selection holds no features: make it with select or jobs/curate.py")
        path = self.run_dir / PICKS_FILE
        try:
            return load_file(path)["features"]
        except (OSError, SafetensorError, KeyError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame."""
        return self.table.to_pandas()

    def to_dataset(self) -> Any:
        """Return the table as a `datasets.Dataset` of Hugging Face. MissingExtraError without the extra `datasets`."""
        return hugging_face_dataset(self.table)

    def to_torch(
        self, columns: Sequence[str] | None = None, *, features: bool = False, transform: Transform | None = None
    ) -> PickedRows:
        """Return the picks as a torch Dataset of mappings, for a DataLoader with batches, shuffling and workers.

        Args:
            columns: Columns of `table`; None for the id and those carried along from the pool.
            features: Whether to add the D numbers that the rows were selected by, as "features".
            transform: Applied to each mapping, to make tensors of texts or images, say; with workers, a function that
                can be pickled.

        Raises:
            InputError: a column that there is not, or a missing value and no transform to deal with it.
            RunDirectoryError: the features cannot be read.
        """
        if columns is None:
            columns = ["id", *(name for name in self.table.column_names if name not in RESERVED_COLUMNS)]
        return picked_rows(self.table, columns, self.features if features else None, transform)

    def plot_gain(self) -> Any:
        """Return a plotly Figure of what each pick was worth and what uncertainty it left.

        Raises:
            MissingExtraError: without the extra `report`.
        """
        load_extra("plotly", "Selection.plot_gain", "report")
        return gain_figure(self.gains, self.remaining_uncertainty, self.unit)

    def _repr_html_(self) -> str:
        """Show the totals and the first picks in a notebook."""
        return table_html(repr(self), self.table.drop_columns(["file", "row"]), "pick")

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        total, left = float(self.gains.sum()), float(self.remaining_uncertainty[-1])
        where = "" if self.run_dir is None else f", run_dir={str(self.run_dir)!r}"
        return f"Selection({len(self)} rows, {total:.4g} {self.unit}, {left:.1%} of target variance left{where})"
