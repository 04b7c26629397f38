import sys
import time

import pytest

from ray_itl.benchmark.bounded import Outcome, run_bounded
from tests.processes import process_is_alive, wait_until

GIB = 2**30


def run(code: str, seconds: float = 60.0, memory_bytes: int = 8 * GIB, **environment: str) -> Outcome:
    return run_bounded(
        [sys.executable, "-c", code], seconds=seconds, memory_bytes=memory_bytes, environment=environment
    )


def test_a_process_within_its_limits_is_left_alone() -> None:
    code = "import os, sys; sys.stderr.write('first\\nlast ' + os.environ['WORD'])"
    assert run(code, WORD="word") == Outcome("done", "last word")


def test_a_process_that_takes_too_long_is_killed_with_its_children(tmp_path) -> None:
    code = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({str(tmp_path / "child")!r}).write_text(str(child.pid))
time.sleep(600)
"""
    began = time.monotonic()
    assert run(code, seconds=3).ending == "time"
    assert time.monotonic() - began < 200
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not process_is_alive(child), 60)


def test_a_process_that_takes_too_much_memory_is_killed() -> None:
    code = "import time\nheld = [bytes(range(256)) * 2**12 for _ in range(300)]\ntime.sleep(60)"
    assert run(code, memory_bytes=100 * 2**20).ending == "memory"


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(60)", "time"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory"),
        ("raise MemoryError", "memory"),
        ("raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')", "memory"),
        ("raise ValueError('odd')", "error"),
    ],
)
def test_it_is_said_what_ended_a_process(code: str, ending: str) -> None:
    assert run(code).ending == ending


def test_the_last_words_are_kept() -> None:
    assert run("raise ValueError('odd')").said == "ValueError: odd"
