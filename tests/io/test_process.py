"""Whether a process of this machine has ended is known for certain, or not claimed."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ray_itl.io.process import has_ended, own_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
_NAME_ITSELF = "import json; from ray_itl.io.process import own_process; print(json.dumps(own_process()), flush=True)"


def test_a_process_that_lives_has_not_ended() -> None:
    assert not has_ended(own_process())


def test_one_that_died_has_ended_also_before_its_parent_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", _NAME_ITSELF + "; input()"], stdin=-1, stdout=-1, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    process: dict[str, Any] = json.loads(child.stdout.readline())
    assert not has_ended(process)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the list of processes
    assert has_ended(process)
    child.wait()
    assert has_ended(process)
    child.stdin.close()
    child.stdout.close()


def test_a_number_that_was_given_again_is_another_process() -> None:
    assert has_ended({**own_process(), "started": "1"})


@pytest.mark.parametrize(
    "change",
    [{"host": "far"}, {"boot": "another"}, {"pid_namespace": "pid:[1]"}, {"started": None}, {"boot": None}],
    ids=str,
)
def test_of_other_machines_boots_and_containers_nothing_is_claimed(change: dict[str, Any]) -> None:
    assert not has_ended({**own_process(), "started": "1", **change})


def test_a_claim_of_an_older_version_says_too_little() -> None:
    own = own_process()
    assert not has_ended({"host": own["host"], "pid": 2**22 - 1})
