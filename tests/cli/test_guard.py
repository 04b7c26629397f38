"""How a job ends: exit codes, and one line that says why."""

import errno
import os
import signal
from pathlib import Path

import pytest

from ray_itl.cli.guard import guarded
from ray_itl.core.result import Progress
from ray_itl.observability.reporter import Advance, Reporter
from tests.helpers import Files


@guarded
def raising(error: BaseException) -> None:
    raise error


def test_storage_that_fails_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        raising(OSError(errno.EIO, "Input/output error", "/data/x"))
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith(
        "error: a file cannot be read or written at the moment ([Errno 5] Input/output error: '/data/x')"
    )
    assert shown.count("\n") == 1


def test_what_nobody_foresaw_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        raising(OSError(errno.ENOTDIR, "Not a directory"))
    assert caught.value.code == 1
    assert "Traceback" in capsys.readouterr().err


class Terminated(Reporter):
    """Sends SIGTERM to this process at the first picks."""

    def picks(self, progress: Progress, advance: Advance) -> None:
        del progress, advance
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_told_to_stop_says_so_and_goes_on_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Files(tmp_path)
    settings = files.settings()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        guarded(files.run)(settings, Terminated("quiet"))
    assert caught.value.code == 128 + signal.SIGTERM == 143
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"
    status = (tmp_path / "run" / "status.json").read_text()
    assert '"state": "interrupted"' in status
    assert "stopped by SIGTERM" in status
    assert signal.getsignal(signal.SIGTERM) == before
    assert len(files.run(settings)) == 12
