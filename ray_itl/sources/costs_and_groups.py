"""What limits look at besides embeddings: the cost of every row, and its group by the values of some columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.errors import InputError
from ray_itl.sources.base import PoolSource, RowSource
from ray_itl.sources.column_values import column_batches
from ray_itl.sources.schema import which_row
from ray_itl.sources.types import plain
from ray_itl.sources.values import Key, UnfitValueError, distinct

OTHER = "(other)"


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

    def costs(self, batch: pa.RecordBatch, positions: np.ndarray, source: RowSource | PoolSource) -> np.ndarray:
        """Return the costs of a batch whose rows stand at these positions.

        Raises:
            InputError: as of `row_costs`.
        """
        if self.cost_column is None:
            return np.ones(batch.num_rows)
        return row_costs(batch.column(self.cost_column), self.cost_column, positions, source)

    def of_batch(self, batch: pa.RecordBatch, positions: np.ndarray, source: RowSource | PoolSource) -> CostsAndGroups:
        """Return the costs and groups of a batch whose rows stand at these positions.

        Raises:
            InputError: as of `row_costs`.
        """
        costs = self.costs(batch, positions, source)
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


def read_costs_and_groups(source: PoolSource, spec: CostGroupColumns, start: int, stop: int) -> CostsAndGroups:
    """Return the costs and groups of rows [start, stop).

    Raises:
        InputError: a cost is not a positive number (names file and row).
    """
    parts = [spec.of_batch(batch, rows, source) for rows, batch in column_batches(source, spec.columns, start, stop)]
    return _joined(parts)


def costs_and_groups_at(source: PoolSource, spec: CostGroupColumns, positions: np.ndarray) -> CostsAndGroups:
    """Return the costs and groups of rows at some positions, in that order."""
    if not len(positions):
        return CostsAndGroups.default(0)
    table = source.take(positions, spec.columns).combine_chunks()
    return _joined([spec.of_batch(batch, positions, source) for batch in table.to_batches(len(positions))])


def count_groups(
    source: PoolSource, spec: CostGroupColumns, wanted: dict[tuple[int, int], int], excluded: np.ndarray | None
) -> Survey:
    """Count the rows of each group, and find the cheapest rows of some values. Reads the columns of `spec` once.

    Args:
        source: The pool.
        spec: What to read; its `cells` are found here.
        wanted: (column, value) -> how many cheapest costs.
        excluded: Positions of rows that may not be picked.

    Raises:
        InputError: a cost that is not a positive number (file and row).
    """
    counts: Counter[int] = Counter()
    cheapest = {key: np.empty(0) for key in wanted}
    for positions, batch in column_batches(source, spec.columns, 0, source.num_rows):
        codes = spec.codes(batch)
        free = np.ones(len(codes), dtype=bool) if excluded is None else ~np.isin(positions, excluded)
        found, numbers = np.unique(codes, return_counts=True)
        counts.update(dict.fromkeys(found.tolist(), 0))
        found, numbers = np.unique(codes[free], return_counts=True)
        counts.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
        costs = spec.costs(batch, positions, source)  # bad ones are found before anything is loaded
        values = {place: spec.column_codes(batch, place) for place, _ in wanted}
        for (place, value), count in wanted.items():
            own = costs[free & (values[place] == value)]
            cheapest[place, value] = np.sort(np.concatenate([cheapest[place, value], own]), kind="stable")[:count]
    cells = tuple(sorted(counts))
    rows = np.array([counts[cell] for cell in cells], dtype=np.int64)
    return Survey(CostGroupColumns(spec.cost_column, spec.group_columns, cells), rows, cheapest)


def row_costs(column: pa.Array, name: str, positions: np.ndarray, source: RowSource | PoolSource) -> np.ndarray:
    """Return a column of costs as float64.

    Raises:
        InputError: one is not a positive, finite number (names file and row).
    """
    column = plain(column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InputError(f"selection.cost_column={name} is of type {kind}: name a column of numbers")
    values = column.cast(pa.float64(), safe=False).fill_null(math.nan).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        files, rows = source.locate(positions[bad[:1]])
        raise InputError(
            f"{which_row(files[0], int(rows[0]))}: {name} is {column[int(bad[0])].as_py()}; costs are positive, finite "
            "numbers: correct it in the pool"
        )
    return values


def _joined(parts: Sequence[CostsAndGroups]) -> CostsAndGroups:
    return CostsAndGroups(torch.cat([part.costs for part in parts]), torch.cat([part.groups for part in parts]))
