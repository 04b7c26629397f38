"""What limits look at besides embeddings: the cost of every row, and its group by the values of some columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.bad_rows import BadRows, Notes
from ray_itl.sources.base import PoolSource, RowSource
from ray_itl.sources.types import plain
from ray_itl.sources.values import Key, UnfitValueError, distinct

OTHER = "(other)"
CostNotes = tuple[BadRows, np.ndarray] | None
"""Where to note bad costs, and the ids of the rows; None: nowhere."""


@dataclass(frozen=True)
class GroupColumn:
    """A column by which rows are grouped."""

    name: str
    kind: pa.DataType
    """The type in which its values are compared (see `values.comparable_type`)."""
    keys: tuple[Key, ...]
    """The values told apart."""
    values: tuple[str, ...]
    """How they are shown; one more, OTHER, stands for all that are not told apart."""

    def codes(self, column: pa.Array) -> np.ndarray:
        """Return the place of each row's value among the values: int64; -1 where it is none of them.

        Raises:
            InputError: a value that is none of the column's type.
        """
        places = {key: place for place, key in enumerate(self.keys)}
        other = len(self.keys) if len(self.values) > len(self.keys) else -1
        try:
            found, rows = distinct(column, self.kind)
        except UnfitValueError as error:
            raise InputError(f"column {self.name!r}: {error}; write it as one type in all files") from error
        return np.array([places.get(key, other) for key in found] or [other], dtype=np.int64)[rows]


@dataclass(frozen=True)
class CostGroupColumns:
    """Where costs and groups come from; small, travels to every shard."""

    cost_column: str | None
    group_columns: tuple[GroupColumn, ...] = ()
    cells: tuple[int, ...] = ()
    """Ascending codes of the combinations of values that occur; the place of a combination is its group."""

    @property
    def columns(self) -> list[str]:
        """All columns to read."""
        own = [] if self.cost_column is None else [self.cost_column]
        return list(dict.fromkeys([*own, *(column.name for column in self.group_columns)]))

    def codes(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return one number for each row's combination of values: mixed radix, the last column fastest."""
        codes = np.zeros(batch.num_rows, dtype=np.int64)
        for place, column in enumerate(self.group_columns):
            codes = codes * len(column.values) + self.column_codes(batch, place)
        return codes

    def column_codes(self, batch: pa.RecordBatch, place: int) -> np.ndarray:
        """Return the place of each row's value among those of one column: int64."""
        column = self.group_columns[place]
        return column.codes(batch.column(column.name))

    def cell_values(self) -> np.ndarray:
        """Return the place of each group's value among those of each column: G x columns."""
        codes, places = np.array(self.cells, dtype=np.int64), []
        for column in reversed(self.group_columns):
            codes, place = np.divmod(codes, len(column.values))
            places.append(place)
        return np.stack(places[::-1], axis=1)

    def costs(
        self, batch: pa.RecordBatch, positions: np.ndarray, source: RowSource | PoolSource, notes: CostNotes = None
    ) -> np.ndarray:
        """Return the costs of a batch whose rows stand at these positions; `notes` as of `row_costs`.

        Raises:
            InputError: as of `row_costs`.
        """
        if self.cost_column is None:
            return np.ones(batch.num_rows)
        return row_costs(batch.column(self.cost_column), self.cost_column, positions, source, notes)

    def of_batch(
        self, batch: pa.RecordBatch, positions: np.ndarray, source: RowSource | PoolSource, notes: CostNotes = None
    ) -> CostsAndGroups:
        """Return the costs and groups of a batch whose rows stand at these positions; `notes` as of `row_costs`.

        Raises:
            InputError: as of `row_costs`.
        """
        costs = self.costs(batch, positions, source, notes)
        groups = np.searchsorted(np.array(self.cells, dtype=np.int64), self.codes(batch))
        return CostsAndGroups(torch.tensor(costs, dtype=torch.float64), torch.from_numpy(groups.astype(np.int64)))


@dataclass
class Survey:
    """What the pool holds of each group, over the rows that may be picked."""

    spec: CostGroupColumns
    rows: np.ndarray
    """G int64."""
    cheapest: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    """(column, value) -> ascending costs of as many of its cheapest rows as were asked for."""


def read_costs_and_groups(
    source: PoolSource, spec: CostGroupColumns, start: int, stop: int, bad: BadRows
) -> CostsAndGroups:
    """Return the costs and groups of rows [start, stop); those of a cost that is no positive number join the bad."""
    batches = positioned_batches(source, spec.columns, start, stop)
    return _joined([spec.of_batch(batch, rows, source, (bad, ids)) for rows, ids, batch in batches])


def costs_and_groups_at(source: PoolSource, spec: CostGroupColumns, positions: np.ndarray) -> CostsAndGroups:
    """Return the costs and groups of rows at some positions, in that order."""
    if not len(positions):
        return CostsAndGroups.default(0)
    table = source.take(positions, spec.columns).combine_chunks()
    return _joined([spec.of_batch(batch, positions, source) for batch in table.to_batches(len(positions))])


def count_groups(
    source: PoolSource,
    spec: CostGroupColumns,
    wanted: dict[tuple[int, int], int],
    excluded: np.ndarray | None,
    bad: BadRows,
) -> Survey:
    """Count the rows of each group, and find the cheapest rows of some values. Reads the columns of `spec` once.

    Args:
        source: The pool.
        spec: What to read; its `cells` are found here.
        wanted: (column, value) -> how many cheapest costs.
        excluded: Positions of rows that may not be picked.
        bad: Collects rows whose cost is no positive number, other than those excluded; they are not counted.
    """
    counts: Counter[int] = Counter()
    cheapest = {key: np.empty(0) for key in wanted}
    for positions, ids, batch in positioned_batches(source, spec.columns, 0, source.num_rows):
        codes, own_bad = spec.codes(batch), BadRows()
        free = np.ones(len(codes), dtype=bool) if excluded is None else ~np.isin(positions, excluded)
        costs = spec.costs(batch, positions, source, (own_bad, ids))  # bad ones are found before anything is loaded
        own_bad = own_bad.without(excluded)
        if len(own_bad):
            free &= ~np.isin(positions, own_bad.positions)
            bad.extend(own_bad)
        found, numbers = np.unique(codes, return_counts=True)
        counts.update(dict.fromkeys(found.tolist(), 0))
        found, numbers = np.unique(codes[free], return_counts=True)
        counts.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
        values = {place: spec.column_codes(batch, place) for place, _ in wanted}
        for (place, value), count in wanted.items():
            own = costs[free & (values[place] == value)]
            cheapest[place, value] = np.sort(np.concatenate([cheapest[place, value], own]), kind="stable")[:count]
    cells = tuple(sorted(counts))
    rows = np.array([counts[cell] for cell in cells], dtype=np.int64)
    return Survey(CostGroupColumns(spec.cost_column, spec.group_columns, cells), rows, cheapest)


def row_costs(
    column: pa.Array, name: str, positions: np.ndarray, source: RowSource | PoolSource, notes: CostNotes = None
) -> np.ndarray:
    """Return a column of costs as float64; with `notes`, bad ones are noted there, and 1.

    Raises:
        InputError: without `notes`, one is not a positive, finite number (names all such files and rows).
    """
    column = plain(column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InputError(f"selection.cost_column={name} is of type {kind}: name a column of numbers")
    values = column.cast(pa.float64(), safe=False).fill_null(math.nan).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if not len(wrong):
        return values
    bad, ids = notes or (BadRows(), None)
    found = {
        row: f"{name} is {column[row].as_py()}; costs are positive, finite numbers: correct it in the pool"
        for row in wrong.tolist()
    }
    Notes(bad, positions).add_all(found, ids)
    if notes is None:
        raise bad.refusal(source.locate)
    values = values.copy()
    values[wrong] = 1.0
    return values


def positioned_batches(
    source: PoolSource, columns: Sequence[str], start: int, stop: int
) -> Iterator[tuple[np.ndarray, np.ndarray, pa.RecordBatch]]:
    """Yield (positions, ids, columns) of rows; ids that are bad are 0 or "", and found when embeddings are read."""
    rows = getattr(source, "row_batches", None)
    if rows is None:
        raise ConfigError(f"columns {', '.join(columns)} were asked for, but an array has none: hand over a table")
    position = start
    for ids, batch in rows(start, stop, columns, BadRows()):
        yield np.arange(position, position + len(ids)), ids, batch
        position += len(ids)


def _joined(parts: Sequence[CostsAndGroups]) -> CostsAndGroups:
    return CostsAndGroups(torch.cat([part.costs for part in parts]), torch.cat([part.groups for part in parts]))
