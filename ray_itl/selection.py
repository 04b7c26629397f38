"""What a selection returns: the picks as a table, what they were worth, and how the run went.

`Selection` hands its picks over to what trains on them: a torch Dataset, a Hugging Face Dataset, pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from ray_itl.io.hub import check_contents, push
from ray_itl.report.data_card import CardData, data_card
from ray_itl.report.notebook import gain_figure, table_html
from ray_itl.runs.command import command_line
from ray_itl.runs.directory import RunDirectory
from ray_itl.runs.environment import environment
from ray_itl.text import plural
from ray_itl.training.picks_dataset import PicksDataset, Transform, picked_rows

if TYPE_CHECKING:
    import pandas as pd

RowReader = Callable[[Sequence[str] | None], pa.Table]
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
_PLACES = ("file", "row")
_OWN_COLUMNS = {*RESERVED_COLUMNS, *EXPLANATION_COLUMNS, "cost"}


def with_whole_rows(table: pa.Table, rows: pa.Table) -> pa.Table:
    """Return the picks' own columns, those of the pool that they carry, then the others of their rows in the pool.

    A column of ours whose name the pool has, too, with other values, is called selection_ and that name.

    Args:
        table: The picks, with columns of the pool perhaps.
        rows: The same rows as the pool has them; its schema's metadata stays.
    """
    ours, carried = {}, {}
    for name in table.column_names:
        column = table.column(name)
        if name not in _OWN_COLUMNS:
            carried[name] = rows.column(name) if name in rows.column_names else column
            continue
        while name in rows.column_names and not _same(rows.column(name), column):
            name = f"selection_{name}"
        ours[name] = column
    further = {name: rows.column(name) for name in rows.column_names if name not in ours and name not in carried}
    return pa.table({**ours, **carried, **further}, metadata=rows.schema.metadata)


def _same(theirs: pa.ChunkedArray, ours: pa.ChunkedArray) -> bool:
    """Whether two columns have the same values, perhaps in another type."""
    try:
        return theirs.cast(ours.type).equals(ours)
    except pa.ArrowException:
        return False


def hugging_face_dataset(table: pa.Table) -> Any:
    """Return a table as a `datasets.Dataset`.

    Raises:
        MissingExtraError: that library is not installed.
    """
    return load_extra("datasets", "Selection.to_dataset", "datasets").Dataset(table)


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
    skipped: pa.Table | None = field(default=None, repr=False, compare=False)
    """Rows of the pool that cannot be used and were passed over: file, row, id, reason. None where there were none."""
    source_rows: RowReader | None = field(default=None, repr=False, compare=False)
    """Reads columns of the picked rows from the pool, in order of rank, all where it is given None; None for a
    selection made by hand. The pool must still be where it was."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Options that were not at their default, by the names of the command line."""
    heldout: pa.Table | None = field(default=None, repr=False, compare=False)
    """Rows of the pool that are nearly equal to a held-out one, and were excluded: file, row, id, heldout_id,
    similarity, reason. None where nothing was held out."""

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
            raise InputError(f"this selection holds no features: make it with select or {command_line('curate')}")
        path = self.run_dir / PICKS_FILE
        try:
            return load_file(path)["features"]
        except (OSError, SafetensorError, KeyError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the picks as whole rows, in order of rank: what `table` says of each, and the pool's columns.

        Args:
            columns: Those of the pool that are read; None: all but the embedding (see `features`). Where the pool has
                a column called as one of `table` with other values, that of `table` is called selection_ and its name.

        Raises:
            InputError: rows that cannot be read any more, a column that no picked row has, or one whose types in
                different files cannot be one.
        """
        if self.source_rows is None:
            return self.table
        return with_whole_rows(self.table, self.source_rows(columns))

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return whole rows as a pandas DataFrame (see `to_arrow`)."""
        return self.to_arrow(columns).to_pandas()

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """Return whole rows as a polars DataFrame (see `to_arrow`). MissingExtraError without the extra `polars`."""
        return load_extra("polars", "Selection.to_polars", "polars").from_arrow(self.to_arrow(columns))

    def to_dataset(self, columns: Sequence[str] | None = None) -> Any:
        """Return whole rows as a `datasets.Dataset` of Hugging Face (see `to_arrow`); images of one stay images.

        Raises:
            MissingExtraError: without the extra `datasets`.
        """
        return hugging_face_dataset(self.to_arrow(columns))

    def data_card(
        self,
        columns: Sequence[str] | None = None,
        *,
        title: str | None = None,
        license: str | None = None,  # noqa: A002 - named like the field of a card
        show_paths: bool = False,
    ) -> str:
        """Return a README.md for the picks as a data set: target, rule, noise, curve, versions, and how to do it again.

        Args:
            columns: As of `to_arrow`.
            title: Its heading.
            license: A licence's identifier at Hugging Face, like "cc-by-4.0"; None: the card says that none is stated.
            show_paths: Whether paths of pool, target and lists stand in the command; else "..." does.

        Raises:
            InputError: a selection made by hand, or rows that cannot be read any more.
        """
        table = self._told_of(columns, show_paths)
        return self._card(table, title or f"{plural(len(self), 'row')} picked for a task", license, show_paths)

    def push_to_hub(
        self,
        repository: str,
        columns: Sequence[str] | None = None,
        *,
        title: str | None = None,
        license: str | None = None,  # noqa: A002 - named like the field of a card
        private: bool = True,
        token: str | None = None,
        exist_ok: bool = False,
        show_paths: bool = False,
        unchecked: Sequence[str] = (),
        part: str | None = None,
    ) -> str:
        """Make a data set of the picks at Hugging Face: whole rows and a data card, in one commit.

        Paths of this machine and credentials are not handed over: all texts are looked through first. Files and rows
        of the pool (columns file and row) are left out unless `show_paths`.

        Args:
            repository: Its name, like "me/picks".
            columns: As of `to_arrow`.
            title: As of `data_card`.
            license: As of `data_card`.
            private: Whether only its owner sees it, where it is made.
            token: Of Hugging Face; None: that of `hf auth login`, or of the environment. Kept nowhere.
            exist_ok: Whether to replace what is in a data set that is there already.
            show_paths: As of `data_card`.
            unchecked: Columns whose texts may hold what looks like credentials or paths.
            part: What the files of these rows are called by, where the data set grows: those of other parts stay. None:
                these rows are all.

        Returns:
            The address of the commit.

        Raises:
            MissingExtraError: without the extra `hub`.
            InputError: rows that cannot be read, texts that hold what others must not see (names the column), a data
                set that is there already, or one that Hugging Face refuses.
            StorageError: it fails or cannot be reached; nothing was changed.
        """
        table = self._told_of(columns, show_paths)
        check_contents(table, unchecked)
        name = title or repository.rpartition("/")[2]
        card = self._card(table, name, license, show_paths)
        how: Any = {"private": private, "token": token, "exist_ok": exist_ok, "part": part}
        return push(table, card, repository, message=f"{plural(len(self), 'row')} picked by ray_itl", **how)

    def _told_of(self, columns: Sequence[str] | None, show_paths: bool) -> pa.Table:
        """Return what others get of the picks."""
        table = self.to_arrow(columns)
        if show_paths:
            return table
        return table.select([name for name in table.column_names if name not in _PLACES])

    def _card(self, table: pa.Table, title: str, licence: str | None, show_paths: bool) -> str:
        if "num_targets" not in self.metrics:
            raise InputError(f"this selection holds no metrics: make it with select or {command_line('curate')}")
        identity = {} if self.run_dir is None else RunDirectory(self.run_dir).identity
        return data_card(
            CardData(
                title=title,
                license=licence,
                columns=[(each.name, str(each.type)) for each in table.schema],
                metrics=self.metrics,
                gains=self.gains.tolist(),
                remaining_uncertainty=self.remaining_uncertainty.tolist(),
                options=self.options,
                fingerprints={name: identity[name] for name in ("pool", "targets") if name in identity},
                versions=environment()["versions"],
                show_paths=show_paths,
            )
        )

    def to_torch(
        self, columns: Sequence[str] | None = None, *, features: bool = False, transform: Transform | None = None
    ) -> PicksDataset:
        """Return the picks as a torch Dataset of mappings, for a DataLoader with batches, shuffling and workers.

        Args:
            columns: Columns of `table` or of the pool; None for the id and those carried along from the pool.
            features: Whether to add the D numbers that the rows were selected by, as "features".
            transform: Applied to each mapping, to make tensors of texts or images, say; with workers, a function that
                can be pickled.

        Raises:
            InputError: a column that there is not, or a missing value and no transform to deal with it.
            RunDirectoryError: the features cannot be read.
        """
        if columns is None:
            columns = ["id", *(name for name in self.table.column_names if name not in RESERVED_COLUMNS)]
        table = self.table
        missing = [name for name in columns if name not in table.column_names]
        if missing and self.source_rows is not None:
            rows = self.source_rows(missing)
            for name in missing:
                table = table.append_column(rows.schema.field(name), rows.column(name))
        return picked_rows(table, columns, self.features if features else None, transform)

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
