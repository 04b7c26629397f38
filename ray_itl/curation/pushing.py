"""The picks as a data set at Hugging Face: what is checked before, and a note of what was pushed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import InputError, MissingExtraError, RayItlError, StorageError
from ray_itl.io.atomic import write_atomic
from ray_itl.io.hub import check_access
from ray_itl.observability.reporter import Reporter
from ray_itl.selection import Selection

PUSH_FILE = "hub.json"


@dataclass(frozen=True)
class PushNote:
    """Where a run's picks were pushed, or are about to be: written before, so that a killed push is known as ours."""

    repository: str
    address: str | None
    """Of the commit; None until it is made."""

    @classmethod
    def read(cls, content: bytes | None) -> Self | None:
        """Return a note; None where there is none, or none that can be read, which costs a push that is not needed."""
        with suppress(ValueError, TypeError):
            return None if content is None else cls(**json.loads(content))
        return None

    @property
    def content(self) -> bytes:
        """The file."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def note_in(folder: Path) -> PushNote | None:
    """Return the note of a run directory."""
    path = folder / PUSH_FILE
    return PushNote.read(path.read_bytes() if path.exists() else None)


def check_push(settings: CurationSettings, note: PushNote | None) -> None:
    """Check, before the work begins, that the picks can be pushed where that is asked for; errors of `check_access`."""
    repository = settings.run.push_to_hub
    if repository is not None:
        is_ours = settings.hub.replace or (note is not None and note.repository == repository)
        check_access(repository, is_ours=is_ours)


def push_run(selection: Selection, settings: CurationSettings, reporter: Reporter) -> None:
    """Push the picks of a finished run where run.push_to_hub asks for it; otherwise as `push_picks`."""
    folder = selection.run_dir
    note = None if folder is None else note_in(folder)

    def keep(told: PushNote) -> None:
        if folder is not None:
            write_atomic(folder / PUSH_FILE, told.content)

    where = "" if folder is None else f": its results are in {folder}"
    push_picks(selection, settings, note, keep, reporter, f"the run is finished{where}")


def push_picks(
    selection: Selection,
    settings: CurationSettings,
    note: PushNote | None,
    keep: Callable[[PushNote], object],
    reporter: Reporter,
    finished: str,
    tick: str | None = None,
    is_ours: bool = False,
) -> None:
    """Push picks where run.push_to_hub asks for it, unless a note says that they are there.

    Args:
        selection: What is pushed.
        settings: All options.
        note: Of an earlier try.
        keep: Keeps the note of this one.
        reporter: Where it is told.
        finished: What an error begins with: the picks are safe.
        tick: Its name, where the picks are those of a tick: the data set keeps those of others.
        is_ours: Whether the data set was made by earlier ticks.

    Raises:
        InputError, StorageError, MissingExtraError: as of `Selection.push_to_hub`.
    """
    repository, how = settings.run.push_to_hub, settings.hub
    if repository is None:
        return
    begun = note is not None and note.repository == repository
    if note is not None and begun and note.address is not None:
        reporter.info(f"the picks are at Hugging Face already: {note.address}")
        return
    if not len(selection):
        reporter.info(f"nothing was picked, and nothing is pushed to {repository}")
        return
    may_change = how.replace or is_ours or begun
    try:
        if not may_change:
            check_access(repository, is_ours=False)
        keep(PushNote(repository, None))
        address = selection.push_to_hub(
            repository,
            how.columns or None,
            title=None if tick is None else f"{repository.rpartition('/')[2]}: tick {tick}, beside those before it",
            license=how.license,
            private=how.private,
            exist_ok=True,
            unchecked=how.unchecked,
            part=tick,
        )
    except (InputError, StorageError, MissingExtraError) as error:
        raise _kind_of(error)(f"{finished}, but not pushed: {error}. The same command again only pushes") from error
    keep(PushNote(repository, address))
    reporter.info(f"pushed to {address}")


def _kind_of(error: RayItlError) -> type[RayItlError]:
    return next(kind for kind in (InputError, StorageError, MissingExtraError) if isinstance(error, kind))
