"""Rows of the pool that the model cannot read, found before the first round and passed over in all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.embedding.source import note_undecodable
from ray_itl.errors import ConfigError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.bad_rows import SKIPPED_FILE, BadRows
from ray_itl.sources.open import open_source
from ray_itl.text import plural

Encode = Callable[[pa.Array], Any]
"""Turns raw rows into what a model learns from; InputError for one that it cannot."""
REMEDY = "set data.on_bad_row=skip"


def passing_over_bad_rows(
    data: TuningData, settings: FineTuneSettings, encode: Encode, run: RunDirectory, reporter: Reporter
) -> TuningData:
    """Return the rows without those of the pool that cannot be read, if they are to be skipped; lists them.

    Reads the pool once: every raw row is decoded, none embedded. A run that goes on reads its own list.

    Raises:
        ConfigError: fewer rows are left than the rounds ask for.
        BadRowsError: no row is left.
    """
    if settings.data.on_bad_row == "refuse" or run.state == "finished":
        return data
    listed = run.path / SKIPPED_FILE
    if not listed.exists():
        with reporter.stage("rows", "looking for rows that cannot be read"):
            bad = _bad_rows(data, settings, encode)
        if len(bad) == data.pool.num_rows:
            raise bad.refusal(data.pool.locate)
        asked, left = settings.rounds.count * settings.rounds.batch, data.pool.num_rows - len(bad)
        if asked > left:
            raise ConfigError(
                f"rounds.count x rounds.batch = {asked}, but the pool has {left} rows that can be used ({len(bad)} "
                "cannot): ask for fewer"
            )
        table = bad.table(data.pool.locate, data.pool.id_kind)
        positions = bad.positions
        write_parquet_table(listed, table.append_column("position", [positions]))
    positions = pq.read_table(listed).column("position").to_numpy()
    if len(positions):
        reporter.warn(f"{plural(len(positions), 'row')} of data.pool cannot be used and are passed over: {listed}")
    return replace(data, barred=positions.astype(np.int64))


def _bad_rows(data: TuningData, settings: FineTuneSettings, encode: Encode) -> BadRows:
    bad = BadRows()
    note_undecodable(data.pool, settings.data.raw_column, encode, settings.embedding.batch_size, bad)
    if settings.embedding.column is not None:
        options = settings.data
        given = open_source(options.pool, id_column=options.id_column, embedding_column=settings.embedding.column)
        for _ in given.batches(0, given.num_rows, bad):
            pass
    return bad
