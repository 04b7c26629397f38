"""A run directory: what belongs to it, whether it may be resumed, and how results get there whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.io.atomic import TEMPORARY_SUFFIX, remove_leftovers, write_atomic, write_json
from ray_itl.io.filesystems import is_transient, transient_error
from ray_itl.runs.ledger import FOLDER as LEDGER_FOLDER
from ray_itl.sources.manifest import Manifest, describe_changes

_MANIFEST = "manifest.json"
_STATUS = "status.json"
_CONFIG = "config.yaml"
TRACKING_FILE = "tracking.json"
"""Where a run is logged besides here (see `tracking`)."""
WANDB_FOLDER = "wandb"
"""What Weights & Biases keeps of it here, and calls so itself."""
RunState = Literal["new", "unfinished", "finished"]


class UnusableRunDirectoryError(RunDirectoryError, ConfigError):
    """The option run.dir names a directory that this run cannot use: trying again will not help."""


class RunDirectory:
    """One run's directory.

    manifest.json holds the run's identity: named digests of everything that decides the result. A directory can only be
    continued by a run of the same identity. status.json says whether the run is finished; it is written last.
    """

    def __init__(self, path: str | Path, may_differ: Collection[str] = ()) -> None:
        """Name the directory; nothing is created, read or written yet.

        `may_differ` names what is kept with the identity and decides nothing.
        """
        self.path = Path(path).absolute()
        self._may_differ = may_differ
        self._created: list[Path] = []

    @property
    def state(self) -> RunState:
        """Whether a run has begun or finished here."""
        if not (self.path / _MANIFEST).exists():
            return "new"
        return "finished" if self._read(_STATUS).get("state") == "finished" else "unfinished"

    @property
    def identity(self) -> dict[str, str]:
        """What decides the result of the run here; empty where there is none."""
        return {} if self.state == "new" else self._read(_MANIFEST).get("identity", {})

    def begin(self, identity: Mapping[str, str], details: Mapping[str, Any], config_text: str) -> RunState:
        """Create and claim the directory for a run, or join the run that is here.

        Args:
            identity: Name of each thing that decides the result, with its digest or value.
            details: Further contents of manifest.json, kept for people.
            config_text: Contents of config.yaml.

        Returns:
            The state found.

        Raises:
            UnusableRunDirectoryError: the directory cannot be written, another run is here (names what differs), or
                files are here that are no run.
            StorageError: storage failed for the moment, or is full.
        """
        self._create()
        state = self.state
        self._check_owner(identity, details)
        if state == "new":
            write_json(self.path / _MANIFEST, {"identity": dict(identity), **details})
        for folder in (self.path, self.path / LEDGER_FOLDER):
            remove_leftovers(folder)  # only now: until here it might be a stranger's
        if not (self.path / _CONFIG).exists():
            write_atomic(self.path / _CONFIG, config_text.encode())
        return state

    def check(self, identity: Mapping[str, str]) -> None:
        """Raise what `begin` would raise; nothing is created. A disk that fails or is full is found then."""
        folder = self.nearest
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise UnusableRunDirectoryError(
                f"run.dir={self.path} cannot be written ({folder}): choose another directory or free this one"
            )
        if folder == self.path:
            self._check_owner(identity, {})

    @property
    def nearest(self) -> Path:
        """The directory, or the nearest one above it that is there."""
        return next(folder for folder in (self.path, *self.path.parents) if folder.exists())

    def _check_owner(self, identity: Mapping[str, str], details: Mapping[str, Any]) -> None:
        if self.state == "new":
            strangers = sorted(p.name for p in self.path.iterdir() if p.suffix != TEMPORARY_SUFFIX)
            if strangers:
                raise UnusableRunDirectoryError(
                    f"run.dir={self.path} holds files that no run left there ({', '.join(strangers[:3])}): choose an "
                    "empty or new directory"
                )
        elif changed := self.changes(identity):
            raise UnusableRunDirectoryError(
                f"run.dir={self.path} belongs to a run with other inputs (changed: {', '.join(changed)})"
                f"{self._changed_files(details)}: choose another directory, or restore what changed to continue this "
                "one"
            )

    def details(self) -> dict[str, Any]:
        """Return what manifest.json says besides the identity; nothing where no run is."""
        return {name: value for name, value in self._read(_MANIFEST).items() if name != "identity"}

    def renew(self, identity: Mapping[str, str], details: Mapping[str, Any]) -> None:
        """Put another identity in place of that of an unfinished run, whose results do not contradict it."""
        write_json(self.path / _MANIFEST, {"identity": dict(identity), **details})

    def changes(self, identity: Mapping[str, str]) -> list[str]:
        """Return the names of what differs between an identity and that of the run here."""
        before = self.identity
        names = {*before, *identity} - set(self._may_differ)
        return sorted(k for k in names if _without_zero(before.get(k)) != _without_zero(identity.get(k)))

    @property
    def config_text(self) -> str | None:
        """Contents of config.yaml; None where there is none that can be read."""
        try:
            return (self.path / _CONFIG).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def replace_config(self, text: str) -> None:
        """Write config.yaml, where a try asks for other results of the same picks than the one that began."""
        write_atomic(self.path / _CONFIG, text.encode())

    def amend(self, identity: Mapping[str, str], config_text: str, note: Mapping[str, Any]) -> dict[str, str]:
        """Make the run here one of another identity, and keep in manifest.json what was different until now.

        Args:
            identity: As for `begin`.
            config_text: The contents of config.yaml from now on.
            note: What else is to be kept of the change.

        Returns:
            The former values of what differs.
        """
        manifest = self._read(_MANIFEST)
        former = {name: manifest["identity"].get(name, "") for name in self.changes(identity)}
        write_atomic(self.path / _CONFIG, config_text.encode())
        amended = [*manifest.get("amended", []), {**note, "until_then": former}]
        write_json(self.path / _MANIFEST, {**manifest, "identity": dict(identity), "amended": amended})
        return former

    def _changed_files(self, details: Mapping[str, Any]) -> str:
        """Say which files of a pool in files are not those of the run here."""
        before, after = self._read(_MANIFEST).get("pool_manifest"), details.get("pool_manifest")
        if not isinstance(before, str) or not isinstance(after, str):
            return ""
        changes = describe_changes(Manifest.from_json(before), Manifest.from_json(after))
        return f" (in the pool: {changes})" if changes else ""

    def tidy(self) -> None:
        """Delete what killed writes of earlier tries left, however lately; for a run that is finished."""
        with contextlib.suppress(OSError):  # the results are whole without
            for folder in (self.path, self.path / LEDGER_FOLDER):
                remove_leftovers(folder, older_than_s=0.0)

    def abandon(self, *others: str) -> None:
        """Take back what `begin` made of a new directory, and other files, unless picks have been recorded since."""
        # A folder that holds something by now stays, and so does what storage will not remove.
        with contextlib.suppress(OSError):
            if (self.path / LEDGER_FOLDER).exists():
                return
            for name in (_STATUS, _MANIFEST, _CONFIG, TRACKING_FILE, *others):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / WANDB_FOLDER, ignore_errors=True)
            for folder in self._created:
                folder.rmdir()

    def set_status(self, state: str, **facts: Any) -> None:
        """Write status.json."""
        write_json(self.path / _STATUS, {"state": state, **facts})

    def read_metrics(self) -> dict[str, Any]:
        """Return metrics.json of a finished run.

        Raises:
            RunDirectoryError: it is missing or damaged.
        """
        metrics = self._read("metrics.json")
        if not metrics:
            raise RunDirectoryError(f"{self.path / 'metrics.json'} is missing: restore it, or use another run.dir")
        return metrics

    def read_pool_manifest(self) -> Manifest:
        """Return the manifest of the pool that the run read.

        Raises:
            RunDirectoryError: the pool was not in files.
        """
        manifest = self._read(_MANIFEST).get("pool_manifest")
        if not isinstance(manifest, str):
            raise RunDirectoryError(f"{self.path / _MANIFEST} has no manifest of a pool in files: restore it")
        return Manifest.from_json(manifest)

    def _create(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._created = missing
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            if is_transient(error):
                raise transient_error(f"run.dir={self.path} cannot be written", error) from error
            raise UnusableRunDirectoryError(
                f"run.dir={self.path} cannot be written ({error.strerror}): choose another directory or free this one"
            ) from error

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            if is_transient(error):
                raise transient_error(f"{path} cannot be read", error) from error
            raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error
        if not isinstance(value, dict):
            raise RunDirectoryError(f"{path} is not a JSON object: restore it, or use another run.dir")
        return value


def _without_zero(value: str | None) -> str | None:
    """Return a value without the .0 of a float: a budget of 500 is one of 500.0, however it was given."""
    return None if value is None else value.removesuffix(".0")
