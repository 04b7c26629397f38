"""A status says who writes it and when, is repeated while its process works, and tells how the work ended."""

import os
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from ray_itl.errors import BusyError, InputError, RunDirectoryError
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Heartbeat, RunStatus, ending


class Written:
    """What was written; `await_more` waits for more of it."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Any]] = []
        self.errs = False
        self.more = threading.Semaphore(0)

    def __call__(self, status: Mapping[str, Any]) -> None:
        self.more.release()
        if self.errs:
            raise RunDirectoryError("full")
        self.told.append(status)

    def await_more(self, times: int) -> None:
        assert all(self.more.acquire(timeout=20) for _ in range(times))


def test_a_status_says_who_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_1"}}')
    written = Written()
    told = Heartbeat(written, clock=lambda: 7.0).tell({"state": "running", "step": "load"})
    assert written.told == [told]
    assert told == {
        **{"state": "running", "step": "load", "submission_id": "raysubmit_1", "time": 7.0},
        **{"host": os.uname().nodename, "pid": os.getpid()},
    }


def test_the_last_status_is_repeated_while_it_runs_and_also_after_an_error_in_writing() -> None:
    written, now = Written(), [0.0]
    heartbeat = Heartbeat(written, clock=lambda: now[0], every_s=0.01)
    with heartbeat.beating():
        heartbeat.tell({"state": "running", "step": "load"})
        heartbeat.tell({"state": "running", "step": "select"})
        now[0] = 9.0
        written.await_more(4)
        written.errs = True
        written.await_more(3)
        written.errs = False
        written.await_more(3)
        heartbeat.tell({"state": "finished"})
        number = len(written.told)
    assert [s.get("step") for s in written.told] == ["load", *["select"] * (number - 2), None]
    assert written.told[-2]["time"] == 9.0
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_an_ending_keeps_what_was_said_last() -> None:
    written = Written()
    heartbeat = Heartbeat(written, clock=lambda: 7.0)
    heartbeat.tell({"state": "running", "step": "load"})
    told = heartbeat.end(InputError("row 3 is bad"))
    assert (told["state"], told["step"], told["error"]) == ("failed", "load", "InputError: row 3 is bad")
    assert written.told[-1] == told


def test_a_status_that_is_another_process_s_by_now_is_not_repeated() -> None:
    written, checked = Written(), threading.Semaphore(0)

    def lost() -> None:
        checked.release()
        raise BusyError("taken over")

    heartbeat = Heartbeat(written, check=lost, every_s=0.01)
    with heartbeat.beating():
        heartbeat.tell({"state": "running"})
        assert all(checked.acquire(timeout=20) for _ in range(3))
    assert len(written.told) == 1


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (InputError("row 3 is bad"), "failed", "InputError: row 3 is bad"),
        (OSError("no s3://key:word@b/x here"), "failed", "OSError: no s3://... here"),
        (MemoryError(), "failed", "MemoryError: "),
        (KeyboardInterrupt(), "interrupted", "stopped by SIGINT: the same command goes on from here"),
        (SystemExit(143), "interrupted", "stopped by SIGTERM: the same command goes on from here"),
    ],
)
def test_endings(error: BaseException, state: str, words: str) -> None:
    assert ending(error) == {"state": state, "error": words}


def test_what_is_waited_for_is_told_until_it_is_there() -> None:
    written = Written()
    heartbeat = Heartbeat(written, clock=lambda: 7.0)
    heartbeat.tell({"state": "running", "rows": 3})
    reporter = Reporter("quiet")
    reporter.on_waiting = heartbeat.waiting
    reporter.waiting("waiting for room on the cluster: 1 shard needs 1 CPU")
    assert written.told[-1]["rows"] == 3
    assert written.told[-1]["waiting"] == "waiting for room on the cluster: 1 shard needs 1 CPU"
    reporter.waiting(None)
    assert written.told[-1]["waiting"] is None
    written.errs = True
    reporter.waiting("a status that cannot be written ends nothing")


def test_a_run_that_waits_says_so_in_its_status() -> None:
    told: list[Mapping[str, Any]] = []
    status = RunStatus(None, 10, 2, told.append)
    status.step("load")
    status.waiting("for room")
    assert (told[-1]["state"], told[-1]["step"], told[-1]["waiting"]) == ("running", "load", "for room")
    status.step("select")
    assert "waiting" not in told[-1]
