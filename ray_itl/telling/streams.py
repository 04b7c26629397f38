"""Writing lines to the standard streams of a run that is worth more than its log."""

from __future__ import annotations

from contextlib import suppress
from typing import TextIO


def write_line(stream: TextIO, line: str) -> None:
    """Write a line at once; a stream that is closed or full does not end the run, nor does what it cannot encode."""
    with suppress(OSError, ValueError):
        encoding = stream.encoding or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
