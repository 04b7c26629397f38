"""What libraries write past us takes our form, or is not there where programs read."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings

import pytest

from ray_itl.cli.library_output import in_our_form

CORE = "[2026-11-29 20:31:24,219 E 25464 25464] core_worker.cc:2465: Actor with class name: 'A' has arguments"
PROGRAM = f"""
import os, sys
from ray_itl.cli.library_output import in_our_form
with in_our_form(sys.argv[1]):
    os.write(2, {(CORE + chr(10)).encode()!r})
    sys.stderr.write("a line of ours\\n[bracketed]\\n")
    sys.stderr.flush()
    os.write(2, b"a line without an end")
sys.stderr.write(" and after\\n")
"""


@pytest.mark.parametrize("log", ["quiet", "json", "lines"])
def test_lines_of_rays_core_are_left_out_where_programs_read(log: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, log], capture_output=True, text=True, timeout=120, check=True)
    core = f"{CORE}\n" if log == "lines" else ""
    assert ran.stderr == f"{core}a line of ours\n[bracketed]\na line without an end and after\n"


@pytest.mark.filterwarnings("always")
def test_warnings_and_records_of_libraries_are_lines(capfd: pytest.CaptureFixture[str]) -> None:
    shown, last_resort = warnings.showwarning, logging.lastResort
    quiet = logging.getLogger("library_of_a_test")
    quiet.propagate = False  # as where nobody has set a handler: pytest has set one at the root
    with in_our_form("quiet"):
        warnings.showwarning(UserWarning("two\nlines"), UserWarning, "a.py", 1)
        quiet.warning("retrying %s", "it")
        quiet.info("nothing")
    assert capfd.readouterr() == ("", "warning: two; lines (UserWarning)\nwarning: retrying it (library_of_a_test)\n")
    with in_our_form("json"):
        warnings.showwarning(UserWarning("\x1b[31mred\x1b[0m"), UserWarning, "a.py", 1)
    out, err = capfd.readouterr()
    assert (json.loads(out)["event"], json.loads(out)["message"], err) == ("warning", "red (UserWarning)", "")
    assert (warnings.showwarning, logging.lastResort) == (shown, last_resort)


def test_bars_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with in_our_form("auto"):
        assert os.environ["TQDM_DISABLE"] == "1"
