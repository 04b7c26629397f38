"""What has been picked for queries: parts on disk while a run goes on, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.core.many.selector import QueryPicks
from ray_itl.curation.outputs import carried_columns
from ray_itl.errors import RunDirectoryError
from ray_itl.io.atomic import remove_leftovers, write_parquet_table
from ray_itl.queries.reading import Queries
from ray_itl.sources.base import PoolSource
from ray_itl.sources.ids import id_dtype, ids_to_arrow

FOLDER = "queries"


class Parts:
    """The parts of a run directory: each holds the picks of some queries, whole."""

    def __init__(self, folder: Path) -> None:
        """Name the run directory."""
        self._folder = folder / FOLDER

    def read(self, source: PoolSource) -> dict[int, QueryPicks]:
        """Return what earlier tries picked, by number of the query.

        Raises:
            RunDirectoryError: a part cannot be read.
        """
        found: dict[int, QueryPicks] = {}
        if not self._folder.is_dir():
            return found
        remove_leftovers(self._folder)
        for path in sorted(self._folder.glob("part-*.parquet")):
            try:
                table = pq.read_table(path)
            except (OSError, pa.ArrowException) as error:
                raise RunDirectoryError(
                    f"{path} cannot be read ({error}): remove it, and its queries are selected for again"
                ) from error
            found.update({each.number: each for each in _picks_in(table, source)})
        return found

    def write(self, picks: Sequence[QueryPicks], source: PoolSource) -> None:
        """Keep the picks of some queries."""
        self._folder.mkdir(exist_ok=True)
        sizes = [len(each.positions) for each in picks]
        columns = {
            "number": pa.array(np.repeat([each.number for each in picks], sizes), pa.int64()),
            "position": pa.array(np.concatenate([each.positions for each in picks]), pa.int64()),
            "id": _ids(picks, source),
            "gain": pa.array(np.concatenate([each.gains for each in picks])),
        }
        if picks[0].bounds is not None:
            columns["bound"] = pa.array(np.concatenate([_bounds(each) for each in picks]))
        if picks[0].floor is not None:
            columns["floor"] = _floors(picks)
        write_parquet_table(self._folder / f"part-{picks[0].number:08d}.parquet", pa.table(columns))


def table_of(queries: Queries, picks: Sequence[QueryPicks], source: PoolSource, columns: Sequence[str]) -> pa.Table:
    """Return (query, rank, id, gain) of all picks, queries in their order, and columns of the pool.

    Where only the nearest rows were looked at there is `bound`, too: the most that any other row could have gained.
    Where targets set a floor there is `min_similarity`, the number that it was for the query.
    """
    sizes = [len(each.positions) for each in picks]
    positions = np.concatenate([each.positions for each in picks])
    numbers = np.repeat([each.number for each in picks], sizes)
    table = pa.table(
        {
            "query": queries.names.take(pa.array(numbers)),
            "rank": pa.array(np.concatenate([np.arange(1, size + 1) for size in sizes])),
            "id": _ids(picks, source),
            "gain": pa.array(np.concatenate([each.gains for each in picks])),
        }
    )
    if picks[0].bounds is not None:
        table = table.append_column("bound", pa.array(np.concatenate([_bounds(each) for each in picks])))
    if picks[0].floor is not None:
        table = table.append_column("min_similarity", _floors(picks))
    carried = carried_columns(source, positions, columns)
    for name in carried.column_names:
        table = table.append_column(carried.schema.field(name), carried.column(name))
    return table


def _ids(picks: Sequence[QueryPicks], source: PoolSource) -> pa.Array:
    values = [value for each in picks for value in each.ids.tolist()]
    return ids_to_arrow(np.array(values, dtype=id_dtype(source.id_kind)))


def _bounds(picks: QueryPicks) -> np.ndarray:
    assert picks.bounds is not None
    return picks.bounds


def _floors(picks: Sequence[QueryPicks]) -> pa.Array:
    """Return the floor of each pick's query."""
    return pa.array([each.floor for each in picks for _ in each.positions], pa.float64())


def _picks_in(table: pa.Table, source: PoolSource) -> list[QueryPicks]:
    if not len(table):  # none of its queries had a row above its floor
        return []
    numbers = table.column("number").to_numpy()
    ids = np.array(table.column("id").to_pylist(), dtype=id_dtype(source.id_kind))
    bounds = table.column("bound").to_numpy() if "bound" in table.column_names else None
    floors = table.column("floor").to_pylist() if "floor" in table.column_names else None
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    picks = []
    for first, stop in zip(starts, [*starts[1:], len(numbers)], strict=True):
        rows = slice(int(first), int(stop))
        own = (table.column(name).to_numpy()[rows] for name in ("position", "gain"))
        positions, gains = own
        limits = None if bounds is None else bounds[rows]
        floor = None if floors is None else floors[int(first)]
        picks.append(QueryPicks(int(numbers[first]), positions, ids[rows], gains, limits, floor))
    return picks
