"""The problem that a published tick solved, opened again to check it."""

from __future__ import annotations

from dataclasses import replace

from ray_itl.errors import InputError
from ray_itl.io.manifest import Manifest
from ray_itl.problem import Problem
from ray_itl.settings import CurationSettings
from ray_itl.ticks.news import PoolNews
from ray_itl.ticks.opening import open_whole
from ray_itl.ticks.past import given_the_past, read_past, require_files
from ray_itl.ticks.state import State


def reopen_tick(settings: CurationSettings, candidates: Manifest) -> Problem:
    """Return the problem of a tick as it was: the rows that were candidates, given what was picked before it.

    Args:
        settings: The tick's own options, `state.tick` being its name.
        candidates: The manifest of the files that it looked at, as kept in its run directory.

    Raises:
        InputError: the state directory does not know the tick, or a file of its candidates is gone.
        RunDirectoryError: the state directory is damaged.
    """
    state = State(str(settings.state.dir))
    records = [tick.record for tick in state.ticks()]
    names = [record.tick for record in records]
    if settings.state.tick not in names:
        raise InputError(
            f"state.dir={settings.state.dir} has no tick {settings.state.tick}: restore the state directory"
        )
    whole = open_whole(settings)
    source = require_files(whole)
    here = {file.path: file for file in source.manifest.files}
    gone = [file.path for file in candidates.files if file.path not in here]
    if gone:
        raise InputError(f"pool file {gone[0]} is gone or renamed since tick {settings.state.tick}: restore it")
    files = [here[file.path] for file in candidates.files]
    place = names.index(settings.state.tick)
    fresh = [] if records[place].stop == "nothing_new" else files
    past = read_past(state.store, records[:place])
    return given_the_past(replace(whole, source=source.only(files)), past, PoolNews([], fresh), "new")
