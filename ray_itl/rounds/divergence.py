"""Trainings that diverged: what a round keeps of one, and how the run goes on from there with other options.

Options of training decide results, so a run directory is not continued with others. But a training that diverged left
no weights: the rounds before it stay as they are, and those from it on are trained otherwise, which the manifest says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ray_itl.errors import DivergedError
from ray_itl.io.atomic import write_json
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.runs.directory import RunDirectory

_NOTE = "diverged.json"
_GROUP = "training."


def note_divergence(folder: RoundFolder, error: DivergedError) -> DivergedError:
    """Keep in a round's folder that its training diverged, and return the error that says so of the round."""
    write_json(folder.path / _NOTE, {"round": folder.number, "error": str(error)})
    return DivergedError(
        f"round {folder.number}: {error}. No weights of it are kept; the same command with other options {_GROUP}* "
        "goes on from this round"
    )


def go_on_otherwise(run: RunDirectory, identity: Mapping[str, str], config_text: str) -> str | None:
    """Let a run whose last training diverged go on with other options of training; they are its own from then on.

    Args:
        run: Its directory, new or not.
        identity: What decides the result now.
        config_text: Contents of config.yaml with these options.

    Returns:
        What is different from which round on, in words; None where nothing is, or where more is than may be.
    """
    number = _diverged_round(run.path)
    changed = run.changes(identity) if number is not None else []
    if not changed or not all(name.startswith(_GROUP) for name in changed):
        return None
    before = run.amend(identity, config_text, {"round": number})
    words = ", ".join(f"{name}={identity.get(name)} (before: {before[name] or None})" for name in changed)
    return f"from round {number} on, whose training diverged, {words}"


def _diverged_round(run: Path) -> int | None:
    """Return the round whose training diverged, if one did and it has not been trained since."""
    folders = (RoundFolder(run, int(note.parent.name)) for note in sorted((run / "rounds").glob(f"*/{_NOTE}")))
    return next((folder.number for folder in folders if folder.read_record() is None), None)
