"""The append-only record of accepted picks: small files, each written once, that a restart reads back."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ray_itl.errors import RunDirectoryError
from ray_itl.io.atomic import sync_folder, write_json
from ray_itl.io.filesystems import is_transient, transient_error

FORMAT_VERSION = 1
FOLDER = "ledger"
_BLOCK_NAME = re.compile(r"block-\d{8}\.json")
_REMEDY = "restore it from a backup, or delete it and every later block and resume, which picks those rows again"


class LedgerEntry(NamedTuple):
    """One accepted pick."""

    step: int
    """Number of the pick, from 0."""
    position: int
    """Its global row in the pool."""
    id: int | str
    gain: float
    """Its gain when it was picked."""
    cost: float = 1.0
    """What it takes from the budget."""


class Ledger:
    """Blocks of picks under `<run directory>/ledger`, for one writer at a time.

    A block is one file that appears whole or not at all, so a crash loses at most the block that was
    being written. Floats survive exactly.
    """

    def __init__(self, directory: str | os.PathLike[str], allow_repeats: bool = False):
        """Use the ledger of this run directory, which must exist; nothing is read or written yet.

        Args:
            directory: The run directory.
            allow_repeats: Whether a position may be picked more than once (selection with replacement).
        """
        self._folder = Path(directory) / FOLDER
        self._num_blocks = -1  # not read yet
        self._allow_repeats = allow_repeats
        self._positions: list[int] = []

    def append(self, block: Sequence[LedgerEntry]) -> None:
        """Add picks that continue the recorded ones, durably, as one new file. An empty block does nothing.

        The first append of a Ledger reads what is there.

        Raises:
            ValueError: steps do not continue, a position repeats, or a gain or cost is not finite.
            RunDirectoryError: the folder cannot be written, or another process has added a block meanwhile.
        """
        if self._num_blocks < 0:
            self.read()
        if not block:
            return
        plain = [_plain(entry) for entry in block]
        problem = self._find_problem(self._positions, plain)
        if problem:
            raise ValueError(f"this block cannot continue the ledger: {problem}")
        path = self._path(self._num_blocks)
        if path.exists():
            raise RunDirectoryError(
                f"{path} was written by another process; stop all but one run on this directory, then resume"
            )
        self._create_folder()
        picks = [entry._asdict() for entry in plain]
        write_json(path, {"format": FORMAT_VERSION, "sha256": _digest(picks), "picks": picks})
        self._positions.extend(entry.position for entry in plain)
        self._num_blocks += 1

    def read(self) -> list[LedgerEntry]:
        """Return all recorded picks in order of their steps, read anew from the files.

        Leftovers of interrupted writes are ignored. RunDirectoryError names the file if one is damaged
        or missing, or if steps do not continue or a position repeats. StorageError if storage failed.
        """
        picks: list[LedgerEntry] = []
        positions: list[int] = []
        blocks = self._blocks()
        for number, path in enumerate(blocks):
            if path != self._path(number):
                raise RunDirectoryError(f"{self._path(number)} is missing although {path.name} is there; {_REMEDY}")
            block = _read_block(path)
            problem = self._find_problem(positions, block)
            if problem:
                raise RunDirectoryError(f"{path} does not continue the block before it: {problem}; {_REMEDY}")
            picks.extend(block)
            positions.extend(entry.position for entry in block)
        self._num_blocks, self._positions = len(blocks), positions
        return picks

    def _find_problem(self, positions: Sequence[int], block: Sequence[LedgerEntry]) -> str:
        """Say why `block` cannot follow picks of these `positions`; "" if it can."""
        taken = set(positions)
        for due, entry in enumerate(block, start=len(positions)):
            if entry.step != due:
                return f"step {entry.step} comes where step {due} is due"
            if entry.position in taken and not self._allow_repeats:
                return f"position {entry.position} is picked a second time at step {entry.step}"
            if not (math.isfinite(entry.gain) and math.isfinite(entry.cost)):
                return f"step {entry.step} has gain {entry.gain} and cost {entry.cost}, which must be finite"
            taken.add(entry.position)
        return ""

    def _path(self, number: int) -> Path:
        return self._folder / f"block-{number:08d}.json"

    def _blocks(self) -> list[Path]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunDirectoryError(f"cannot list {self._folder}: {error}; check its permissions") from error
        return sorted(self._folder / name for name in names if _BLOCK_NAME.fullmatch(name))

    def _create_folder(self) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            sync_folder(self._folder.parent)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot create {self._folder}: {error}; check that the run directory exists and is writable"
            ) from error


def _plain(entry: LedgerEntry) -> LedgerEntry:
    """Return the entry without numpy scalars, which JSON does not know."""
    row_id = str(entry.id) if isinstance(entry.id, str) else int(entry.id)
    return LedgerEntry(int(entry.step), int(entry.position), row_id, float(entry.gain), float(entry.cost))


def _read_block(path: Path) -> list[LedgerEntry]:
    try:
        content = json.loads(path.read_bytes())
        version, picks = content["format"], content["picks"]
        intact = version != FORMAT_VERSION or content["sha256"] == _digest(picks)
        if intact and version == FORMAT_VERSION:
            return [LedgerEntry(**pick) for pick in picks]
    except (OSError, ValueError, TypeError, KeyError) as error:
        if is_transient(error):
            raise transient_error(f"{path} cannot be read", error) from error
        raise RunDirectoryError(f"{path} cannot be read ({error}); {_REMEDY}") from error
    if not intact:
        raise RunDirectoryError(f"{path} is damaged: its picks do not match its checksum; {_REMEDY}")
    raise RunDirectoryError(
        f"{path} has format {version}, this version reads {FORMAT_VERSION}; resume with the version of ray_itl "
        "that wrote it"
    )


def _digest(picks: list[dict]) -> str:
    return hashlib.sha256(json.dumps(picks, sort_keys=True).encode()).hexdigest()
