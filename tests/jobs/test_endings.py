"""However a job ends, its status and its exit code say so, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ray_itl.command import guarded
from tests.helpers import Files
from tests.jobs.helpers import ROOT

pytestmark = pytest.mark.cluster
CASES = {
    "run, SIGTERM": ("run.dir", signal.SIGTERM, 143),
    "run, SIGINT": ("run.dir", signal.SIGINT, 130),
    "run, SIGKILL": ("run.dir", signal.SIGKILL, -9),
    "tick, SIGTERM": ("state.dir", signal.SIGTERM, 143),
}


@dataclass(frozen=True)
class Ended:
    """A job that a signal ended in mid-selection."""

    code: int
    pid: int
    errors: str
    before: dict[str, Any]
    after: dict[str, Any]
    command: list[str]


def status(folder: Path) -> dict[str, Any]:
    path = folder / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def await_picks(folder: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    while not status(folder).get("num_picked"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return status(folder)


def _heed_sigint() -> None:
    """Undo what a shell does to jobs in the background, and with them to tests: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(name: str, folder: Path, command: list[str], process: subprocess.Popen[str]) -> Ended:
    before = await_picks(folder, process)
    process.send_signal(CASES[name][1])
    _, errors = process.communicate(timeout=240)
    return Ended(process.returncode, process.pid, errors, before, status(folder), command)


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """All cases at once: most of the time is loading libraries."""
    files = Files(tmp_path_factory.mktemp("endings"), num_rows=12_000)
    options = [f"pool.path={files.pool}", f"target.path={files.target}", "selection.n=12000", "cluster.num_shards=0"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    started: dict[str, tuple[Path, list[str], subprocess.Popen[str]]] = {}
    for number, (name, (option, _, _)) in enumerate(CASES.items()):
        folder = files.folder / f"results-{number}"
        command = [sys.executable, str(ROOT / "jobs" / "curate.py"), *options, f"{option}={folder}"]
        process = subprocess.Popen(
            command, cwd=files.folder, env=one_thread, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_sigint
        )
        started[name] = folder, command, process
    try:
        # Side by side, for one that waits for its turn might be done before.
        with ThreadPoolExecutor(len(started)) as threads:
            yield dict(zip(started, threads.map(lambda name: _end(name, *started[name]), started), strict=True))
    finally:
        for _, _, process in started.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", CASES)
def test_while_it_goes_on_the_status_says_what_and_who(endings: dict[str, Ended], name: str) -> None:
    told = endings[name].before
    assert (told["state"], told["step"], told["rows"]) == ("running", "select", 12_000)
    assert 0 < told["num_picked"] < told["num_asked"] == 12_000
    assert told["eta_s"] > 0
    assert (told["submission_id"], told["host"], told["pid"]) == (None, os.uname().nodename, endings[name].pid)
    assert time.time() - 300 < told["time"] <= time.time()
    assert told.get("tick") == (time.strftime("%Y-%m-%d", time.gmtime(told["time"])) if "tick" in name else None)


@pytest.mark.parametrize("name", [name for name in CASES if "KILL" not in name])
def test_what_a_signal_ends_says_so(endings: dict[str, Ended], name: str) -> None:
    ended, (_, number, code) = endings[name], CASES[name]
    assert ended.code == code
    assert ended.errors.splitlines()[-1] == f"error: stopped by {number.name}"
    assert "Traceback" not in ended.errors
    assert (ended.after["state"], ended.after["step"]) == ("interrupted", "select")
    assert ended.after["error"] == f"stopped by {number.name}: the same command goes on from here"
    assert ended.before["num_picked"] <= ended.after["num_picked"] < 12_000


def test_what_was_killed_says_running_at_a_time_that_gets_old(endings: dict[str, Ended]) -> None:
    ended = endings["run, SIGKILL"]
    assert (ended.code, ended.after["state"], ended.after["pid"]) == (-9, "running", ended.pid)
    assert ended.after["time"] < time.time()


@pytest.mark.parametrize("name", ["run, SIGKILL", "tick, SIGTERM"])
def test_the_same_command_goes_on(endings: dict[str, Ended], name: str) -> None:
    again = subprocess.Popen(endings[name].command, stderr=subprocess.PIPE, text=True)
    assert again.stderr is not None
    try:
        found = next(line for line in iter(again.stderr.readline, "") if "in the ledger already" in line)
    finally:
        again.kill()
        again.communicate()
    assert int(found.split()[0].replace(",", "")) >= endings[name].after["num_picked"]


def test_the_signal_handler_of_ray_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    @guarded
    def job() -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as ray.init does
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    with pytest.raises(SystemExit) as caught:
        job()
    assert caught.value.code == 143
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) == before
