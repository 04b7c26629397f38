"""What is kept of a tick: one row of ticks.parquet, and what the next tick needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import pyarrow as pa

from ray_itl.errors import RunDirectoryError
from ray_itl.io.tick_log import Entry

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
