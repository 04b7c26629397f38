"""Reading back what was logged: TensorBoard's event files, and those of Weights & Biases."""

from __future__ import annotations

import importlib
import json
import struct
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

PROTO: Any = importlib.import_module("tensorboardX.proto.event_pb2")
_WRITTEN_WITHIN_S = 20.0


class Events:
    """All event files of a folder, as TensorBoard reads them: scalars by tag and step, texts by tag."""

    def __init__(self, folder: Path) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.texts: dict[str, str] = {}
        for path in sorted(folder.glob("events.out.tfevents.*")):
            for event in _events(path.read_bytes()):
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        self.scalars[value.tag].append((event.step, value.simple_value))
                    elif value.tensor.string_val:
                        self.texts[value.tag.removesuffix("/text_summary")] = value.tensor.string_val[0].decode()


def _events(content: bytes) -> list[Any]:
    """A record is its length (8 bytes), a checksum of that (4), the event, and a checksum of it (4)."""
    found, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = PROTO.Event()
        event.ParseFromString(content[at + 12 : at + 12 + length])
        found.append(event)
        at += 16 + length
    return found


class OfflineRuns:
    """What `wandb sync` would send of the runs kept in a folder: options, figures by name, summaries, files."""

    def __init__(self, folder: Path) -> None:
        self.ids: list[str] = []
        self.names: set[str] = set()
        self.options: dict[str, Any] = {}
        self.figures: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.states: list[str] = []
        self.codes: list[int] = []
        self.files: set[str] = set()
        for run in sorted((folder / "wandb").glob("offline-run-*")):
            self.files |= {path.name for path in (run / "files").iterdir()}
            (log,) = run.glob("*.wandb")
            for record in _whole_log(log):
                self._take(record)

    def _take(self, record: Any) -> None:
        if record.HasField("run"):
            self.ids.append(record.run.run_id)
            self.names.add(f"{record.run.project}/{record.run.display_name}")
            self.options |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name in items.keys() - {"step"}:
                self.figures[name].append((items["step"], items[name]))
        elif record.HasField("summary"):
            self.states += [
                json.loads(item.value_json) for item in record.summary.update if "state" in (item.key, *item.nested_key)
            ]
        elif record.HasField("exit"):
            self.codes.append(record.exit.exit_code)


def _whole_log(log: Path) -> list[Any]:
    """Return the records of a run that is finished, whose last ones its service may still be about to write."""
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    while True:
        records = _wandb_records(log.read_bytes())
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.05)


def _wandb_records(content: bytes) -> list[Any]:
    """Records lie in blocks of 32 KiB, in parts of a checksum (4 bytes), a length (2), a type (1), and the part."""
    proto: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    block, at, found, parts = 32768, 7, [], b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if at + 7 + length > len(content):
            break
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = proto.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found
