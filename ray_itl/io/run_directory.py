"""A run directory: what belongs to it, whether it may be resumed, and how results get there whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ray_itl.errors import RunDirectoryError
from ray_itl.io.atomic import write_json

_MANIFEST = "manifest.json"
_STATUS = "status.json"
RunState = Literal["new", "unfinished", "finished"]


class RunDirectory:
    """One run's directory.

    manifest.json holds the run's identity: named digests of everything that decides the result. A directory can only be
    continued by a run of the same identity. status.json says whether the run is finished; it is written last.
    """

    def __init__(self, path: str | Path) -> None:
        """Create the directory where it does not exist; raises RunDirectoryError where that is impossible."""
        self.path = Path(path).absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunDirectoryError(
                f"run.dir={self.path} cannot be written ({error.strerror}): choose another directory or free this one"
            ) from error

    @property
    def state(self) -> RunState:
        """Whether a run has begun or finished here."""
        if not (self.path / _MANIFEST).exists():
            return "new"
        return "finished" if self._read(_STATUS).get("state") == "finished" else "unfinished"

    def begin(self, identity: Mapping[str, str], details: Mapping[str, Any]) -> RunState:
        """Claim the directory for a run, or join the run that is here.

        Args:
            identity: Name of each thing that decides the result, with its digest or value.
            details: Further contents of manifest.json, kept for people.

        Returns:
            The state found.

        Raises:
            RunDirectoryError: another run is here (names what differs), or files are here that are no run.
        """
        state = self.state
        if state == "new":
            strangers = sorted(p.name for p in self.path.iterdir())
            if strangers:
                raise RunDirectoryError(
                    f"run.dir={self.path} holds files that no run left there ({', '.join(strangers[:3])}): choose an "
                    "empty or new directory"
                )
            write_json(self.path / _MANIFEST, {"identity": dict(identity), **details})
            return state
        before = self._read(_MANIFEST).get("identity", {})
        changed = sorted(k for k in {*before, *identity} if before.get(k) != identity.get(k))
        if changed:
            raise RunDirectoryError(
                f"run.dir={self.path} belongs to a run with other inputs (changed: {', '.join(changed)}): choose another "
                "directory, or restore what changed to continue this one"
            )
        return state

    def set_status(self, state: str, **facts: Any) -> None:
        """Write status.json."""
        write_json(self.path / _STATUS, {"state": state, **facts})

    def read_metrics(self) -> dict[str, Any]:
        """Return metrics.json of a finished run."""
        return self._read("metrics.json")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error
        if not isinstance(value, dict):
            raise RunDirectoryError(f"{path} is not a JSON object: restore it, or use another run.dir")
        return value
