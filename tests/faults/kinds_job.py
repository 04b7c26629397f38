"""A run submitted by `ray job submit` to a head that asks for a token, ended by `ray job stop`, and submitted again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.faults import evidence
from tests.faults.bench import Bench
from tests.faults.case import Case, DifferentError, Outcome, finish_run, require
from tests.faults.tries import KILLED, Try
from tests.jobs.head import Head

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_LIMIT_S = 300.0


def stopped_job(case: Case, bench: Bench) -> Outcome:
    """`ray job stop` (SIGTERM, SIGKILL after 3 s) once a drawn number of rows is picked, or a drawn second later."""
    world = bench.world.copy(case.folder / "world")
    run, head = world.folder / "run", bench.head
    options, picks = world.run(case.draw("shards", 1, 2)), case.draw("picks", -20, 140)
    pause = case.seconds("delay", 1.0)

    def again() -> Try:
        name = f"case-{case.index}-{len(case.tries)}-{time.time_ns()}"
        began = time.monotonic()
        _submit(head, name, options, case.plan(run))
        struck = not case.tries and _stop_at(head, name, run, picks, pause)
        status = _await(head, name, _ENDED)
        if struck and status == "STOPPED":
            logs = head.get(f"/api/jobs/{name}/logs")["logs"]
            case.drawn["said so"] = "stopped by SIGTERM" in logs  # else SIGKILL came before it could
            require(evidence.untrue_of_stopped(run) if case.drawn["said so"] else "")
            return Try(KILLED, time.monotonic() - began, "", struck=True)
        logs = head.get(f"/api/jobs/{name}/logs")["logs"]
        found = head.get(f"/api/jobs/{name}")
        if status == "FAILED" and found["driver_exit_code"] is None and "not begun" not in case.drawn:
            case.drawn["not begun"] = found["message"]  # Ray never called our command: it is submitted once more
            return again()
        return Try(0 if status == "SUCCEEDED" else 1, time.monotonic() - began, logs or found["message"], struck=False)

    case.add(again())
    return finish_run(case, run, bench.run, again)


def _submit(head: Head, name: str, options: list[str], plan: Any) -> None:
    """Submit without waiting; a race in Ray's upload (ray-project/ray issue 46625) is met by one more try."""
    path = Path(plan.struck).with_name("plan.json")
    path.write_text(plan.to_json())
    command = ["ray", "job", "submit", "--address", head.url, "--submission-id", name, "--no-wait"]
    job = ["python", "-m", "tests.faults.launch", str(path), "jobs/curate.py", *options]
    for left in (1, 0):
        ran = head.run([*command, "--working-dir", ".", "--", *job])
        if ran.returncode == 0:
            return
        assert left, ran.stdout + ran.stderr
        command[5] = f"{name}-again"
    raise AssertionError("not reached")


def _stop_at(head: Head, name: str, run: Path, picks: int, pause: float) -> bool:
    """Stop a job at a moment; returns whether it was still to be stopped."""
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        status = _status(run)
        if picks < 0 or status.get("num_picked", -1) >= picks or status.get("state") == "finished":
            break
        if head.get(f"/api/jobs/{name}")["status"] in _ENDED:
            return False
        time.sleep(0.02)
    time.sleep(pause)
    token = head.environment["RAY_AUTH_TOKEN"]
    request = Request(f"{head.url}/api/jobs/{name}/stop", headers={"Authorization": f"Bearer {token}"}, method="POST")
    with urlopen(request, timeout=30) as reply:
        return bool(json.load(reply)["stopped"])


def _status(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "status.json").read_text())
    except FileNotFoundError:
        return {}


def _await(head: Head, name: str, states: tuple[str, ...]) -> str:
    deadline = time.monotonic() + _LIMIT_S
    while (status := head.get(f"/api/jobs/{name}")["status"]) not in states:
        if time.monotonic() > deadline:
            raise DifferentError(f"the job is {status} after {_LIMIT_S:.0f} s")
        time.sleep(0.1)
    return status
