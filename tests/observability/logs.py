"""Reading back what was logged: TensorBoard's event files, MLflow's store."""

from __future__ import annotations

import importlib
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

PROTO: Any = importlib.import_module("tensorboardX.proto.event_pb2")


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
