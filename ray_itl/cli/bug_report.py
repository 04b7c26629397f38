"""A failure that nobody foresaw, kept in a file: whoever ran the command gets one line, whoever mends it the whole."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

from ray_itl.io.credentials import masked
from ray_itl.runs.environment import environment


def write_bug_report(error: BaseException) -> Path:
    """Write the command, versions and traceback of an error, without credentials; return the file, which stays.

    Raises:
        OSError: nothing can be written to the temporary directory.
    """
    told = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(sys.argv),
        "folder": str(Path.cwd()),
        **environment(),
    }
    trace = "".join(traceback.format_exception(error))
    file, path = tempfile.mkstemp(".log", f"ray_itl-bug-{time.strftime('%Y%m%d-%H%M%S')}-")
    with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(masked(f"{json.dumps(told, indent=2)}\n\n{trace}"))
    return Path(path)
