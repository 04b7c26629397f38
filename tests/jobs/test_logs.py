"""run.log: what the jobs write for people at a terminal, for schedulers, and for what collects logs."""

from __future__ import annotations

import json
import os
import pty
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import Files
from tests.jobs.helpers import ROOT, compose_job, load_job


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def options(files: Files, log: str) -> list[str]:
    where = [f"pool.path={files.pool}", f"target.path={files.target}", f"run.dir={files.folder / 'run'}"]
    return [*where, "selection.n=12", "cluster.num_shards=0", f"run.log={log}"]


def run(job: str, *words: str) -> None:
    load_job(job).main(compose_job(job, *words))


def test_json_tells_a_run_from_its_first_step_to_its_files(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    run("curate", *options(files, "json"))
    shown = capsys.readouterr()
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.err == ""
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == ["open", "load", "select", "compare", "write"]
    picks = [event for event in events if event["event"] == "picks"]
    assert {"picked", "of", "gain", "last_gain", "passes", "rows_per_s", "eta_s", "step", "time"} <= set(picks[-1])
    assert (picks[-1]["picked"], picks[-1]["of"]) == (12, 12)
    last = events[-1]
    assert (last["event"], last["picked"], last["of"], last["unit"]) == ("finished", 12, 300, "nats")
    assert last["gain"] == pytest.approx(picks[-1]["gain"])
    assert all(Path(path).exists() for path in last["paths"].values())
    assert set(last["paths"]) == {"results", "selection", "report"}
    run("verify", f"run.dir={files.folder / 'run'}", "run.log=json")
    (verdict,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (verdict["event"], verdict["right"], verdict["checked"]) == ("finished", True, 12)


def test_quiet_runs_say_one_line(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    run("curate", *options(files, "quiet"))
    line = rf"picked 12 of 300 rows for 12 targets: .* nats, .*; results: {files.folder / 'run'}\n"
    shown = capsys.readouterr()
    assert re.fullmatch(line, shown.out)
    assert shown.err == ""


def test_what_a_quiet_run_warns_of_is_on_stderr_and_in_its_record(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*options(files, "quiet"), "acquisition.noise_variance=1e9"]
    run("curate", *words)
    first = capsys.readouterr()
    run("curate", *words)
    assert capsys.readouterr() == first  # a finished run says it again
    assert re.fullmatch(r"warning: The noise variance \(1e\+09\) is .*\n", first.err)
    assert re.fullmatch(rf"picked 12 of .*; 1 warning; results: {files.folder / 'run'}\n", first.out)
    told = first.err.strip().removeprefix("warning: ")
    for name in ("metrics.json", "status.json"):
        assert json.loads((files.folder / "run" / name).read_text())["warnings"] == [told]


def test_a_plan_in_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    run("curate", *options(files, "json"), "plan=true")
    (plan,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (plan["rows"], plan["dim"], plan["shards"], plan["on_disk"]) == (300, 8, 1, False)
    assert not (files.folder / "run").exists()


ERRORS = [
    (["selection.n=0"], 2, "ConfigError", r"selection\.n=0"),
    (["pool.path=/nowhere/p", "target.path=/nowhere/t"], 2, "InputError", "/nowhere"),
    (["selection.nosuch=1"], 2, "ConfigError", "nosuch"),
    (["pool.path=["], 2, "ConfigError", r"pool\.path"),
]


@pytest.mark.parametrize(("words", "code", "kind", "message"), ERRORS, ids=[words[0] for words, *_ in ERRORS])
def test_errors_in_json(
    words: list[str],
    code: int,
    kind: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jobs" / "curate.py"), *words, "run.log=json"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert caught.value.code == code
    shown = capsys.readouterr()
    (error,) = map(json.loads, shown.err.splitlines())
    assert (error["event"], error["error"], error["exit_code"]) == ("error", kind, code)
    assert re.search(message, error["message"])
    assert [json.loads(line)["event"] for line in shown.out.splitlines()] in ([], ["step"])


def test_a_bug_in_json_names_a_file_with_its_traceback(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def open_problem(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("ray_itl.curation.preparation.open_problem", open_problem)
    with pytest.raises(SystemExit) as caught:
        run("curate", *options(files, "json"))
    (error,) = map(json.loads, capsys.readouterr().err.splitlines())
    (report,) = tmp_path.glob("ray_itl-bug-*.log")
    assert (caught.value.code, error["exit_code"], str(report) in error["message"]) == (1, 1, True)
    assert report.read_text().endswith("ValueError: a bug\n")


@pytest.mark.cluster
def test_a_terminal_gets_one_live_line_and_a_summary(files: Files) -> None:
    """The job on a pseudo-terminal, as a person would have it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "jobs" / "curate.py"), *options(files, "auto"), "run.report=false"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as job:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    text = shown.decode()
    assert job.returncode == 0, text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") >= 1  # a cursor that was hidden is back
    kept = [line for line in re.sub(r"\x1b\[[0-9;?]*\w", "", text).replace("\r\n", "\n").split("\n") if line.strip()]
    assert len(kept) < 12
    assert any(line.startswith("picked 12 of 300 rows for 12 targets") for line in kept)
    assert any(line.startswith("next:") for line in kept)
