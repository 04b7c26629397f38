"""How a job ends: exit codes, and one line that says why."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray_itl.cli.guard import guarded, open_closed_streams
from ray_itl.core.result import Progress
from ray_itl.observability.reporter import Advance, Reporter
from tests.helpers import Files
from tests.jobs.helpers import ROOT


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


def test_what_nobody_foresaw_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MY_TOKEN", "dont-tell-anybody")
    with pytest.raises(SystemExit) as caught:
        raising(KeyError("dont-tell-anybody"))
    assert caught.value.code == 1
    (report,) = tmp_path.glob("ray_itl-bug-*.log")
    shown = capsys.readouterr().err
    assert shown.startswith("error: this is a bug of ray_itl (KeyError: ")
    assert str(report) in shown
    assert shown.count("\n") == 1
    kept = report.read_text()
    assert "Traceback" in kept
    assert '"torch": ' in kept
    assert "dont-tell-anybody" not in shown + kept


def test_a_bug_is_told_in_full_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(SystemExit) as caught:
        raising(KeyError("x"))
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert "in raising" in shown
    assert shown.count("\n") == 1


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


CLOSING = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}


@pytest.mark.parametrize("closed", CLOSING)
def test_a_job_started_without_a_standard_stream_ends_as_any_other(closed: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    code = "import sys; sys.argv[1:] = ['verify', 'run.dir=run']; from ray_itl.cli.main import main; main()"
    command = f'"{sys.executable}" -c "{code}" {CLOSING[closed]}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert ran.returncode == 2, ran
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: run.dir=") != (closed == "stderr")


def test_closed_streams_lead_nowhere_and_open_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdin, sys.stdout
    monkeypatch.setattr(sys, "stderr", None)
    open_closed_streams()
    assert (sys.stdin, sys.stdout) == before
    assert sys.stderr is not None
    sys.stderr.write("to nobody\n")
    sys.stderr.close()


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = ['prepare', '--help']; from ray_itl.cli.main import main; main()"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        job.stdout.close()
        assert job.stderr.read() == b""
        assert job.wait(250) == 0
