"""Which form of telling an option means."""

from __future__ import annotations

import os
import sys

from ray_itl.errors import ConfigError
from ray_itl.telling.event import Teller
from ray_itl.telling.json_lines import JsonLines
from ray_itl.telling.lines import FinalLine, Lines

LOGS = ("auto", "lines", "quiet", "json")


def check_log(log: object) -> None:
    """Raise ConfigError unless `log` is a value that the option run.log can have."""
    if log not in LOGS:
        raise ConfigError(f"run.log={log!r} cannot be used: use one of {', '.join(LOGS)}")


def choose_teller(log: str) -> Teller:
    """Return the form of telling for run.log.

    lines: plain lines; quiet: the last line and errors only; json: one JSON object a line; auto: a line that is drawn
    anew in place where standard error is a terminal, else lines.

    Raises:
        ConfigError: another word.
    """
    check_log(log)
    if log == "auto" and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        # Imported here because most runs have no terminal to draw on.
        from ray_itl.telling.live_line import LiveLine

        return LiveLine()
    return {"json": JsonLines, "quiet": FinalLine}.get(log, Lines)()
