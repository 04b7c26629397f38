"""What runs and ticks leave, less what may differ between tries; and what may lie there in between."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

from ray_itl.errors import RayItlError
from ray_itl.runs.ledger import Ledger
from ray_itl.ticks.state import State

LEAVINGS = (".tmp",)
_METRICS = ("num_picks", "total_gain", "remaining_uncertainty", "num_rows", "next_gain", "comparison")
_VARYING = ("time", "seconds", "path", "submission_id")
Evidence = Mapping[str, Any]


def of_run(run: Path) -> Evidence:
    """All that a finished run says: picks, gains, ledger, posterior, totals, and which files there are."""
    metrics = _json(run / "metrics.json")
    return {
        "selection.parquet": pq.read_table(run / "selection.parquet").to_pydict(),
        "ledger": Ledger(run).read(),
        "posterior.safetensors": _tensors(run / "posterior.safetensors"),
        "picks.safetensors": _tensors(run / "picks.safetensors"),
        "metrics.json": {name: metrics[name] for name in _METRICS},
        "state of status.json": _json(run / "status.json")["state"],
        "files": sorted(path.name for path in run.iterdir()),
    }


def untrue_of_stopped(folder: Path) -> str:
    """Say how status.json in a folder does not tell that its run was stopped by SIGTERM, or ""."""
    path = folder / "status.json"
    if not path.exists():
        return ""  # it had not begun
    status = _json(path)
    told = status["state"] == "interrupted" and "stopped by SIGTERM" in status["error"]
    return "" if told or status["state"] == "finished" else f"status.json after SIGTERM says {status}"


def of_state(location: Path) -> Evidence:
    """All that a state directory says: its history, and what every tick left."""
    state = State(str(location))
    records = [tick.record for tick in state.ticks()]
    history = pq.read_table(location / "ticks.parquet").to_pylist()
    staged = location / "staging"
    return {
        "ticks.parquet": [{key: value for key, value in row.items() if key not in _VARYING} for row in history],
        "log": [record.tick for record in records],
        "ticks": [of_run(location / record.path) for record in records],
        "folders of ticks": len(list((location / "ticks").iterdir())),
        "state of status.json": _json(location / "status.json")["state"],
        "staging": sorted(path.name for path in staged.iterdir()) if staged.exists() else [],
        "files": sorted(path.name for path in location.iterdir() if path.name != "staging"),
    }


def leavings(folder: Path) -> list[Path]:
    """Return what tries left in a run or state directory that the same command clears, once it is surely nobody's."""
    return [*folder.glob(".*.tmp"), *(folder / "log").glob(".*.tmp"), *(folder / "staging").glob("*")]


def untidy(folder: Path) -> bool:
    """Whether the same command has something to clear, or to put right in a status.json that storage kept from it."""
    status = folder / "status.json"
    return bool(leavings(folder)) or not status.exists() or _json(status)["state"] != "finished"


def made_old(paths: Sequence[Path]) -> None:
    """Make files look two hours old."""
    for path in paths:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 7200))


def difference(expected: Evidence, found: Evidence, where: str = "") -> str:
    """Name the first thing that differs, or ""."""
    for name in expected:
        here = f"{where}{name}"
        was, now = expected[name], found[name]
        if isinstance(was, list) and was and isinstance(was[0], Mapping) and len(was) == len(now):
            for number, (before, after) in enumerate(zip(was, now, strict=True)):
                if inside := difference(before, after, f"{here} {number}: "):
                    return inside
        elif was != now:
            return f"{here}: {_short(now)} instead of {_short(was)}"
    return ""


def run_in_between(run: Path, expected: Evidence) -> str:
    """Say what an unfinished run holds that is half-written or wrong, or ""."""
    try:
        return _unfinished(run, expected) if run.exists() else ""
    except (ValueError, KeyError, pa.ArrowException, RayItlError) as error:
        return f"half-written: {error}"


def state_in_between(location: Path, before: Evidence, after: Evidence) -> str:
    """Say what a state directory holds that neither belongs to before nor to after the tick, or ""."""
    try:
        records = [tick.record for tick in State(str(location)).ticks()]
        names = [record.tick for record in records]
        if names not in (before["log"], after["log"]):
            return f"the log has the ticks {names}"
        for record, expected in zip(records, after["ticks"], strict=False):
            if wrong := difference(expected, of_run(location / record.path), f"{record.tick}: "):
                return wrong
        pq.read_table(location / "ticks.parquet")
        _json(location / "status.json")
    except (ValueError, KeyError, pa.ArrowException, RayItlError, FileNotFoundError) as error:
        return f"half-written: {error}"
    return ""


def _unfinished(run: Path, expected: Evidence) -> str:
    for path in run.iterdir():
        if path.suffix == ".json":
            _json(path)
    entries = Ledger(run).read()
    if entries != expected["ledger"][: len(entries)]:
        return "the ledger is not the beginning of that of an undisturbed run"
    table = run / "selection.parquet"
    if table.exists() and pq.read_table(table).to_pydict() != expected["selection.parquet"]:
        return "selection.parquet is not that of an undisturbed run"
    status = _json(run / "status.json") if (run / "status.json").exists() else {"state": "none"}
    if status["state"] == "finished":
        found = of_run(run)  # the next call clears what one that was killed was about to rename
        return difference(expected, {**found, "files": [name for name in found["files"] if not name.endswith(".tmp")]})
    return ""


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _tensors(path: Path) -> dict[str, Any]:
    """Digests of tensors by name, and metadata; the bytes of a file may differ by the order of its metadata."""
    with safe_open(path, "numpy") as file:
        contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        digests = {name: (array.shape, sha256(array.tobytes()).hexdigest()) for name, array in contents.items()}
        return {**digests, "metadata": file.metadata()}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:197]}..."
