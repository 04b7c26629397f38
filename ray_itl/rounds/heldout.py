"""Rows of the pool that are nearly equal to held-out ones, found before the first round: told of, or kept out of all.

What the model reads is compared, never what it makes of it: a model that is still to be trained finds rows alike that
are not. Texts are the same but for case and white space; of everything else the contents are. Embeddings that are given
(embedding.kind=column) are compared by their cosines, too, where held-out rows have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.near_rows import NearQuery, find_near
from ray_itl.core.rules import unit_rows
from ray_itl.curation.heldout import REASONS
from ray_itl.curation.text_overlap import TextIndex
from ray_itl.embedding.content import keys_of
from ray_itl.errors import ConfigError, InputError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import RowSource
from ray_itl.sources.open import open_rows, open_source
from ray_itl.sources.settings import HeldoutSettings
from ray_itl.sources.types import is_list, is_text, plain
from ray_itl.text import plural

NEAR_HELDOUT_FILE = "near_heldout.parquet"
_SAME, _SAME_TEXT, _NEAR = "same content", REASONS[0], REASONS[1]
_LookUp = Callable[[pa.Array], tuple[np.ndarray, np.ndarray]]
"""Returns which of some values are like a held-out one, and like which."""
_Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Positions of rows of the pool, ascending, the held-out row that each is like, and how much."""


def apart_from_heldout(
    data: TuningData, settings: FineTuneSettings, run: RunDirectory, reporter: Reporter
) -> TuningData:
    """Tell of rows of the pool that are nearly equal to held-out ones, or bar them, as data.near_heldout says.

    Reads the pool once, and lists what is found; a run that goes on reads its own list.

    Raises:
        ConfigError: fewer rows are left than the rounds ask for.
    """
    how = settings.data.near_heldout
    if how == "ignore" or run.state == "finished":
        return data
    listed = run.path / NEAR_HELDOUT_FILE
    if not listed.exists():
        write_parquet_table(listed, _table(data, settings, reporter))
    positions = np.setdiff1d(pq.read_table(listed).column("position").to_numpy(), data.barred)
    if not len(positions):
        return data
    found = f"{plural(len(positions), 'row')} of data.pool nearly equal to held-out rows, listed in {listed}"
    if how == "flag":
        reporter.warn(
            f"{found}: once picked, they flatter the scores; set data.near_heldout=exclude to keep them out, in "
            "another run.dir"
        )
        return data
    reporter.info(f"{found}: excluded")
    barred = np.union1d(data.barred, positions)
    asked, left = settings.rounds.count * settings.rounds.batch, data.pool.num_rows - len(barred)
    if asked > left:
        raise ConfigError(
            f"rounds.count x rounds.batch = {asked}, but the pool has {left} rows that can be picked "
            f"({len(positions)} are nearly equal to held-out ones): ask for fewer"
        )
    return replace(data, barred=barred)


def _table(data: TuningData, settings: FineTuneSettings, reporter: Reporter) -> pa.Table:
    """Return near_heldout.parquet: position, file, row, number of the held-out row, similarity and reason."""
    count, told = data.heldout.num_rows, reporter.rows("compared", data.pool.num_rows)
    with reporter.stage("heldout", f"comparing data.pool with {plural(count, 'held-out row')}"):
        reason, (positions, nearest, similarities) = _alike(data, told)
        reasons = np.full(len(positions), reason, dtype=object)
        if settings.embedding.column is not None:
            near = _near(data, settings.embedding.column, reporter)
            new = ~np.isin(near[0], positions)
            reasons = np.concatenate([reasons, np.full(int(new.sum()), _NEAR, dtype=object)])
            parts = zip((positions, nearest, similarities), near, strict=True)
            positions, nearest, similarities = (np.concatenate([own, other[new]]) for own, other in parts)
    order = np.argsort(positions)
    files, rows = data.pool.locate(positions[order])
    return pa.table(
        {
            "position": pa.array(positions[order], pa.int64()),
            "file": pa.array(files, pa.string()),
            "row": pa.array(rows, pa.int64()),
            "heldout_row": pa.array(nearest[order], pa.int64()),
            "similarity": pa.array(similarities[order], pa.float64()),
            "reason": pa.array(reasons[order].tolist(), pa.string()),
        }
    )


def _alike(data: TuningData, told: Callable[[int], None]) -> tuple[str, _Found]:
    """Return the rows with the content of a held-out one, and what that is called. One read of the pool."""
    others = pa.concat_arrays([column for _, column in _raw(data, data.heldout)])
    look_up, reason = (_same_texts(others), _SAME_TEXT) if is_text(others.type) else (_same_contents(others), _SAME)
    positions, nearest = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for first, column in _raw(data, data.pool):
        rows, like = look_up(column)
        positions.append(first + rows)
        nearest.append(like)
        told(first + len(column))
    found = np.concatenate(positions)
    return reason, (found, np.concatenate(nearest), np.ones(len(found)))


def _same_texts(others: pa.Array) -> _LookUp:
    index = TextIndex(others)

    def look_up(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        found = index.look_up(column)
        return found.rows, found.nearest

    return look_up


def _same_contents(others: pa.Array) -> _LookUp:
    numbers: dict[bytes, int] = {}
    for row, key in enumerate(_keys(others)):
        if key is not None:
            numbers.setdefault(key, row)

    def look_up(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        like = np.array([-1 if key is None else numbers.get(key, -1) for key in _keys(column)], dtype=np.int64)
        rows = np.flatnonzero(like >= 0)
        return rows, like[rows]

    return look_up


def _keys(column: pa.Array) -> Iterator[bytes | None]:
    """Yield a key of each value, None of nulls; lists of numbers are equal in whatever types they are."""
    kind = column.type
    if is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        lists = column.cast(pa.large_list(pa.float64()))
        ends, values = lists.offsets.to_numpy(), lists.values.to_numpy(zero_copy_only=False)
        contents = (values[begin:end].tobytes() for begin, end in pairwise(ends.tolist()))
        keys: Iterator[bytes] = (blake2b(content, digest_size=16).digest() for content in contents)
    else:
        keys = (key.tobytes() for key in keys_of(column))
    for is_there, key in zip(column.is_valid().to_pylist(), keys, strict=True):
        yield key if is_there else None


def _raw(data: TuningData, rows: RowSource) -> Iterator[tuple[int, pa.Array]]:
    """Yield what the model reads of all rows, with the position of the first; rows that cannot be read are null."""
    first = 0
    for ids, batch in rows.row_batches(0, rows.num_rows, [data.options.raw_column], BadRows()):
        yield first, plain(batch.column(0))
        first += len(ids)


def _near(data: TuningData, column: str, reporter: Reporter) -> _Found:
    """Return the rows whose given embeddings are near those of a held-out one; none where held-out rows have none."""
    options = data.options
    try:
        others = open_rows(options.heldout, "", column, embedding_option="embedding.column")
    except InputError:
        reporter.info(
            f"held-out rows have no embeddings in column {column!r}: they are compared by their content alone"
        )
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    directions = unit_rows(torch.from_numpy(others.embeddings(np.arange(others.num_rows))))
    query = NearQuery(directions, HeldoutSettings().max_similarity)
    pool = open_source(options.pool, id_column=options.id_column, embedding_column=column)
    found, first = [], 0
    for _, batch in pool.batches(0, pool.num_rows, BadRows()):
        rows = torch.from_numpy(np.nan_to_num(batch))  # of a bad row nothing is known
        found.append(find_near(MemoryFeatures(rows), first, query))
        first += len(batch)
    parts = ([getattr(each, name) for each in found] for name in ("positions", "nearest", "similarities"))
    positions, nearest, similarities = (np.concatenate(part) for part in parts)
    return positions, nearest, similarities
