"""The picks of a published tick, added to a data set at Hugging Face that grows with the ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from ray_itl.curation.inputs import FROM_OPTIONS
from ray_itl.curation.outputs import read_selection
from ray_itl.curation.pool_rows import as_it_was, open_pool_rows
from ray_itl.curation.pushing import PUSH_FILE, PushNote, push_picks
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.source_rows import SourceRows
from ray_itl.errors import InputError
from ray_itl.io.temporary import temporary_folder
from ray_itl.observability.reporter import Reporter
from ray_itl.options.declare import changed
from ray_itl.runs.directory import RunDirectory
from ray_itl.selection import Selection
from ray_itl.sources.parquet import ParquetSource
from ray_itl.ticks.history import TickRecord
from ray_itl.ticks.state import State

_FILES = ("selection.parquet", "metrics.json", "manifest.json")


def pushed_before(state: State, records: Sequence[TickRecord], repository: str) -> PushNote | None:
    """Return the note of the last tick whose picks were pushed, or about to be, to a data set."""
    notes = (PushNote.read(state.store.read(f"{record.path}/{PUSH_FILE}")) for record in reversed(records))
    return next((note for note in notes if note is not None and note.repository == repository), None)


def push_tick(state: State, record: TickRecord, settings: CurationSettings, reporter: Reporter) -> None:
    """Push the picks of a tick that is published, where that is asked for and they are not there.

    Raises:
        InputError: rows that changed since, or what `push_picks` raises.
        StorageError, MissingExtraError: as `push_picks`.
    """
    repository, name = settings.run.push_to_hub, f"{record.path}/{PUSH_FILE}"
    if repository is None:
        return
    note = PushNote.read(state.store.read(name))
    records = [tick.record for tick in state.ticks()]
    done = note is not None and note.repository == repository and note.address is not None
    with temporary_folder("tick") as folder:
        for file in _FILES:
            if (content := state.store.read(f"{record.path}/{file}")) is not None:
                (folder / file).write_bytes(content)
        run = RunDirectory(folder)
        selection = read_selection(run)
        if len(selection) and not done:
            selection = replace(selection, source_rows=_rows(run, selection, settings), options=changed(settings))
        push_picks(
            selection,
            settings,
            note,
            lambda told: state.store.write(name, told.content),
            reporter,
            f"tick {record.tick} is published in {state.store.location}",
            tick=record.tick,
            is_ours=pushed_before(state, records, repository) is not None,
        )


def _rows(run: RunDirectory, selection: Selection, settings: CurationSettings) -> SourceRows:
    """Return what reads the rows of a tick's picks from the pool; InputError where a file is not what it was."""
    before = run.read_pool_manifest()
    options = replace(as_it_was(settings, before), selection=replace(settings.selection, n=1))
    options = replace(options, pool=replace(options.pool, filter=None))
    source = cast(ParquetSource, open_pool_rows(options, FROM_OPTIONS))
    files, rows = (selection.table.column(name).to_pylist() for name in ("file", "row"))
    was, now = ({file.path: file.fingerprint for file in each.files} for each in (before, source.manifest))
    if lost := sorted({file for file in files if was.get(file) != now.get(file)}):
        raise InputError(f"{lost[0]} is not what it was when its rows were picked: restore it to push them")
    return SourceRows(source, np.array([source.position_of(*place) for place in zip(files, rows, strict=True)]))
