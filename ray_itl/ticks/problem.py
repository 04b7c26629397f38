"""The problem of the next tick, or of one that was published, opened again to check it.

All ticks of a state directory share an identity, which the whole pool's problem gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ray_itl.curation.identity import run_identity
from ray_itl.curation.inputs import FROM_OPTIONS, Inputs
from ray_itl.curation.open import open_problem, with_noise
from ray_itl.curation.pool_rows import as_it_was
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.options.declare import described
from ray_itl.sources.ids import id_word
from ray_itl.sources.manifest import Manifest
from ray_itl.ticks.changes import PoolChanges
from ray_itl.ticks.history import PastTick, TickRecord, conditioned_on, read_history, require_files
from ray_itl.ticks.state import State

_NOT_FOR_ALL_TICKS = {
    *("pool", "limits", "held-out rows"),
    *(each.name for each in described(CurationSettings) if each.per_tick),
}
"""What of a run's identity may differ from tick to tick: it decides what a tick may pick, not what is known."""


def open_whole_pool(settings: CurationSettings, inputs: Inputs) -> Problem:
    """Open the problem on the whole pool, where fewer rows than selection.n will do."""
    one = replace(settings, selection=replace(settings.selection, n=1))
    return replace(open_problem(one, inputs), selection=settings.selection)


def with_first_noise(whole: Problem, records: Sequence[TickRecord], settings: CurationSettings) -> Problem:
    """Return the problem with the noise variance of the first tick, where one is relative to the rows that it saw."""
    noise = next((record.noise_variance for record in records if record.noise_variance is not None), None)
    if not whole.noise_is_relative or noise is None:
        return whole
    return with_noise(whole, replace(settings.acquisition, noise_variance=noise, relative_noise=None))


def shared_identity(whole: Problem, settings: CurationSettings) -> dict[str, str]:
    """Return what all ticks of a state share."""
    own = {name: value for name, value in run_identity(whole, settings).items() if name not in _NOT_FOR_ALL_TICKS}
    source = whole.source
    kind = f"{source.dim} x {source.dtype} in {settings.pool.embedding_column}, {id_word(source.id_kind)} ids"
    return {**own, "kind of pool rows": kind}


def check_identity(ticks: Sequence[PastTick], identity: Mapping[str, str], settings: CurationSettings) -> None:
    """Raise ConfigError naming what is not as it was in the last tick, and must be."""
    if not ticks:
        return
    before = ticks[-1].identity
    changed = sorted(name for name in {*before, *identity} if before.get(name) != identity.get(name))
    if changed == ["targets"]:
        if settings.state.on_new_target == "accept":
            return
        raise ConfigError(
            f"target.path={settings.target.path} is not the sample of the last tick ({ticks[-1].record.tick}): set "
            "state.on_new_target=accept to keep what was picked as known and select for the new one from now on"
        )
    if changed:
        raise ConfigError(
            f"state.dir={settings.state.dir} was made with other options (changed: {', '.join(changed)}): restore "
            "them, or begin anew in another state.dir"
        )


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
    whole = open_whole_pool(as_it_was(settings, candidates), FROM_OPTIONS)
    source = require_files(whole)
    here = {file.path: file for file in source.manifest.files}
    gone = [file.path for file in candidates.files if file.path not in here]
    if gone:
        raise InputError(f"pool file {gone[0]} is gone or renamed since tick {settings.state.tick}: restore it")
    files = [here[file.path] for file in candidates.files]
    place = names.index(settings.state.tick)
    new_files = [] if records[place].stop == "nothing_new" else files
    history = read_history(state.store, records[:place])
    # Its own noise is that of the first tick, or its own if it was that.
    whole = with_first_noise(whole, records, settings)
    return conditioned_on(replace(whole, source=source.only(files)), history, PoolChanges([], new_files), "new")
