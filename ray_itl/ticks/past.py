"""What earlier ticks left in a state directory, and the problem of the next tick given it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.io.lookup import positions_of
from ray_itl.io.parquet import ParquetSource
from ray_itl.io.store import Store
from ray_itl.problem import Problem
from ray_itl.ticks.news import PoolNews, Seen, news_of_table
from ray_itl.ticks.record import TickRecord

FILES = "files.parquet"
_PICKS = "picks.safetensors"
_SELECTION = "selection.parquet"
_THREADS = 16


@dataclass(frozen=True)
class Past:
    """What some ticks saw and picked."""

    seen: Seen
    ids: pa.Array | None
    """Ids of all picks; None before the first."""
    features: Tensor | None
    """Features of all picks as the shards held them, k x D float64."""


def read_past(store: Store, records: Sequence[TickRecord]) -> Past:
    """Read what ticks left, first to last; RunDirectoryError where a file of theirs is missing or damaged."""
    picked = [record.path for record in records if record.picks]
    with ThreadPoolExecutor(_THREADS) as threads:
        tables = threads.map(lambda record: store.read_table(f"{record.path}/{FILES}"), records)
        seen = Seen.after(news_of_table(table) for table in tables)
        ids = list(threads.map(lambda path: store.read_table(f"{path}/{_SELECTION}", ["id"]).column(0), picked))
        features = list(threads.map(lambda path: _read_features(store, f"{path}/{_PICKS}"), picked))
    if not picked:
        return Past(seen, None, None)
    chunks = [chunk for column in ids for chunk in column.chunks]
    return Past(seen, pa.concat_arrays(chunks), torch.cat(features))


def given_the_past(problem: Problem, past: Past, news: PoolNews, candidates: str) -> Problem:
    """Return the problem of the next tick: earlier picks are known and ruled out, and perhaps only news is looked at.

    Args:
        problem: The problem of the whole pool, in Parquet files, as if nothing had been picked.
        past: What earlier ticks left.
        news: What is new in the pool.
        candidates: "new" or "all" (see `settings.StateSettings`).
    """
    if past.features is not None:
        known = past.features if problem.known is None else torch.cat([problem.known, past.features])
        problem = replace(problem, known=known)
    if candidates == "new":
        if not news.num_rows:
            return replace(problem, idle=True)
        problem = replace(problem, source=_parquet(problem).only(news.fresh))
    if past.ids is not None:
        problem = replace(problem, excluded=positions_of(_parquet(problem), past.ids))
    return problem.at_most_all()


def _parquet(problem: Problem) -> ParquetSource:
    return cast(ParquetSource, problem.source)


def _read_features(store: Store, name: str) -> Tensor:
    content = store.read(name)
    if content is None:
        raise RunDirectoryError(f"{name} is missing in {store.location}: restore it from a backup")
    try:
        return load(content)["features"].to(torch.float64)
    except (SafetensorError, KeyError) as error:
        raise RunDirectoryError(f"{name} in {store.location} is damaged ({error}): restore it from a backup") from error


def require_files(problem: Problem) -> ParquetSource:
    """Return the problem's source; InputError unless it is Parquet files, which alone can be told apart later."""
    if not isinstance(problem.source, ParquetSource):
        raise InputError("state.dir needs a pool of Parquet files: only they can be recognised by later ticks")
    return problem.source
