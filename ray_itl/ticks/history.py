"""What is kept of a tick, and what earlier ticks saw and picked.

A tick is one row of ticks.parquet; from those before it follows the problem of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, cast

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ray_itl.curation.problem import Problem
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.sources.lookup import positions_of
from ray_itl.sources.parquet import ParquetSource
from ray_itl.ticks.changes import PoolChanges, SeenFiles, changes_of_table
from ray_itl.ticks.log import Entry, StateStore

Stop = Literal["n", "min_gain", "share", "no_rows", "nothing_new"]


@dataclass(frozen=True)
class TickRecord:
    """One published tick."""

    tick: str
    time: float
    """When it was published, seconds since 1970."""
    new_files: int
    new_rows: int
    """Rows of files that no tick saw before."""
    candidate_rows: int
    """Rows that could be picked."""
    picks: int
    gain: float
    """What the picks are worth given all earlier ones, in `unit`."""
    unit: str
    stop: Stop
    """Why it picked no more: n reached, min_gain, share, no rows left among the candidates, or nothing new at all."""
    next_gain: float | None
    """Where it stopped for min_gain: what the next pick would have been worth."""
    cumulative_picks: int
    uncertainty_before: float
    """Share of the targets' prior variance that earlier picks left."""
    uncertainty_left: float
    """Share that these leave."""
    seconds: float
    submission_id: str | None
    path: str
    """Its run directory, relative to the state directory."""
    noise_variance: float | None = None
    """As a number; None of a tick without rows to pick from, and of those of older versions."""


@dataclass(frozen=True)
class PastTick:
    """A tick in the log: its record, and the identity that later ticks must share."""

    record: TickRecord
    identity: Mapping[str, str]


def log_content(record: TickRecord, identity: Mapping[str, str]) -> dict[str, Any]:
    """Return what the log keeps of a tick."""
    return {"record": asdict(record), "identity": dict(identity)}


def past_tick(entry: Entry) -> PastTick:
    """Take `log_content` back; RunDirectoryError for what another version wrote."""
    try:
        record = TickRecord(**entry.content["record"])
        if record.stop == "no_rows_left":  # what the first versions called it
            record = replace(record, stop="no_rows")
        return PastTick(record, entry.content["identity"])
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"entry {entry.number} of the state's log is not of this version of ray_itl ({error}): use the version "
            "that wrote it"
        ) from error


def ticks_table(records: Sequence[TickRecord]) -> pa.Table:
    """Return ticks.parquet: a row for each tick, first to last; `time` is a UTC timestamp."""
    kinds = {"int": pa.int64(), "float": pa.float64(), "float | None": pa.float64()}
    columns = {}
    for field in fields(TickRecord):
        values = [getattr(record, field.name) for record in records]
        columns[field.name] = pa.array(values, kinds.get(str(field.type), pa.string()))
    moments = [round(1e6 * record.time) for record in records]
    columns["time"] = pa.array(moments, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


FILES = "files.parquet"
_PICKS = "picks.safetensors"
_SELECTION = "selection.parquet"
_THREADS = 16


@dataclass(frozen=True)
class History:
    """What some ticks saw and picked."""

    seen: SeenFiles
    ids: pa.Array | None
    """Ids of all picks; None before the first."""
    features: Tensor | None
    """Features of all picks as the shards held them, k x D float64."""


def read_history(store: StateStore, records: Sequence[TickRecord]) -> History:
    """Read what ticks left, first to last; RunDirectoryError where a file of theirs is missing or damaged."""
    picked = [record.path for record in records if record.picks]
    with ThreadPoolExecutor(_THREADS) as threads:
        tables = threads.map(lambda record: store.read_table(f"{record.path}/{FILES}"), records)
        seen = SeenFiles.after(changes_of_table(table) for table in tables)
        ids = list(threads.map(lambda path: store.read_table(f"{path}/{_SELECTION}", ["id"]).column(0), picked))
        features = list(threads.map(lambda path: _read_features(store, f"{path}/{_PICKS}"), picked))
    if not picked:
        return History(seen, None, None)
    chunks = [chunk for column in ids for chunk in column.chunks]
    return History(seen, pa.concat_arrays(chunks), torch.cat(features))


def conditioned_on(problem: Problem, history: History, changes: PoolChanges, candidates: str) -> Problem:
    """Return the problem of the next tick: earlier picks are known and ruled out, and perhaps only news is looked at.

    Args:
        problem: The problem of the whole pool, in files, as if nothing had been picked.
        history: What earlier ticks left.
        changes: What is new in the pool.
        candidates: "new" or "all" (see `settings.StateSettings`).
    """
    if history.features is not None:
        known = history.features if problem.known is None else torch.cat([problem.known, history.features])
        problem = replace(problem, known=known, at_first=problem, num_before=len(history.features))
    if candidates == "new":
        if not changes.num_rows:
            return replace(problem, nothing_to_pick=True)
        problem = replace(problem, source=_parquet(problem).only(changes.new_files))
    if history.ids is not None:
        problem = replace(problem, excluded=positions_of(_parquet(problem), history.ids))
    return problem.at_most_all()


def _parquet(problem: Problem) -> ParquetSource:
    return cast(ParquetSource, problem.source)


def _read_features(store: StateStore, name: str) -> Tensor:
    content = store.read(name)
    if content is None:
        raise RunDirectoryError(f"{name} is missing in {store.location}: restore it from a backup")
    try:
        return load(content)["features"].to(torch.float64)
    except (SafetensorError, KeyError) as error:
        raise RunDirectoryError(f"{name} in {store.location} is damaged ({error}): restore it from a backup") from error


def require_files(problem: Problem) -> ParquetSource:
    """Return the problem's source; InputError unless it is files, which alone can be told apart later."""
    if not isinstance(problem.source, ParquetSource):
        raise InputError("state.dir needs a pool of files: only they can be recognised by later ticks")
    return problem.source
