"""Runs that leave a directory: what is in it, resuming, refusing, and leaving nothing behind."""

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from ray_itl.core.result import Progress
from ray_itl.curation.open import open_problem
from ray_itl.curation.run import curate_problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.summary import summarise
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.observability.reporter import Advance, Reporter
from ray_itl.observability.status import RunStatus
from ray_itl.options.text import from_yaml
from ray_itl.runs.directory import RunDirectory
from tests.helpers import DIM, Files, clustered, table_of


class StopAfter(Reporter):
    """Raises after a number of blocks."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__("quiet")
        self._left = num_blocks

    def picks(self, progress: Progress, advance: Advance) -> None:
        del advance
        self._left -= 1
        if self._left == 0:
            raise InterruptedError(f"stopped at {progress.num_picked}")


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_a_run_directory_holds_what_it_should(files: Files) -> None:
    settings = files.settings(pool={"columns": ["text", "weight"]})
    selection = files.run(settings)
    run = files.folder / "run"
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "manifest.json", "ledger", "selection.parquet", "challengers.parquet",
        "posterior.safetensors", "picks.safetensors", "metrics.json", "status.json",
    }  # fmt: skip
    table = pq.read_table(run / "selection.parquet")
    assert table.equals(selection.table)
    assert table.column_names == [
        "rank",
        "id",
        "gain",
        "cumulative_gain",
        "file",
        "row",
        "near_target",
        "text",
        "weight",
    ]
    assert table.column("text").to_pylist() == [f"text {i}" for i in selection.ids]
    for row in table.to_pylist():
        assert pq.read_table(files.pool / row["file"]).column("id")[row["row"]].as_py() == row["id"]
    assert from_yaml((run / "config.yaml").read_text(), CurationSettings) == settings
    assert load_file(run / "posterior.safetensors")["root"].shape == (DIM, DIM)
    status, metrics = read(run / "status.json"), read(run / "metrics.json")
    assert (status["state"], status["num_picked"]) == ("finished", 12)
    picks = load_file(run / "picks.safetensors")["features"].numpy()
    stored = {row["id"]: row["embedding"] for row in files.table.to_pylist()}
    np.testing.assert_array_equal(picks, np.array([stored[i] for i in selection.ids], np.float32))
    assert metrics["total_gain"] == pytest.approx(selection.gains.sum())
    assert metrics["num_rows"] == 300
    assert len(metrics["remaining_uncertainty"]) == 13


def test_gains_never_rise_much_and_uncertainty_falls(files: Files) -> None:
    curve = files.run(files.settings(run=None)).remaining_uncertainty
    assert curve[0] == 1
    assert (np.diff(curve) < 0).all()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_blocks", [1, 2, 4])
@pytest.mark.parametrize(
    "changes", [{}, {"pool": {"dtype": "float16", "features": "unit_norm"}}], ids=["plain", "half"]
)
def test_an_interrupted_run_resumes_to_the_same_file(files: Files, num_blocks: int, changes: Any) -> None:
    files.run(files.settings("whole", n=24, **changes))
    settings = files.settings("broken", n=24, **changes)
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(num_blocks))
    broken = files.folder / "broken"
    picked = read(broken / "status.json")
    assert (picked["state"], picked["error"][:20]) == ("failed", "InterruptedError: st")
    assert not (broken / "selection.parquet").exists()

    listener = Listener()
    files.run(settings, listener)
    assert any("picks are in the ledger already" in line for line in listener.lines)
    whole = pq.read_table(files.folder / "whole" / "selection.parquet")
    assert pq.read_table(broken / "selection.parquet").equals(whole)
    assert read(broken / "status.json")["state"] == "finished"


@pytest.mark.usefixtures("small_blocks")
def test_with_replacement_a_resumed_run_may_repeat_picks(files: Files) -> None:
    changes: dict[str, Any] = {"selection": {"n": 30, "replacement": True}, "acquisition": {"noise_variance": 5.0}}
    whole = files.run(files.settings(run=None, **changes))
    assert len(set(whole.ids)) < 30
    with pytest.raises(InterruptedError):
        files.run(files.settings(**changes), StopAfter(5))
    assert files.run(files.settings(**changes)).ids == whole.ids


def test_a_finished_run_says_so_and_returns_what_it_found(files: Files) -> None:
    first = files.run(files.settings())
    before = {path: path.stat().st_mtime_ns for path in (files.folder / "run").iterdir()}
    listener = Listener()
    again = files.run(files.settings(), listener)
    assert any("finished already" in line for line in listener.lines)
    assert again.table.equals(first.table)
    assert (again.unit, again.stats) == (first.unit, first.stats)
    assert again.metrics == json.loads(json.dumps(first.metrics))
    assert {path: path.stat().st_mtime_ns for path in (files.folder / "run").iterdir()} == before


@pytest.mark.parametrize("name", ["selection.parquet", "metrics.json"])
def test_a_finished_run_that_lost_a_file_names_it(files: Files, name: str) -> None:
    files.run(files.settings())
    (files.folder / "run" / name).unlink()
    with pytest.raises(RunDirectoryError, match=name):
        files.run(files.settings())


def _new_pool_file(files: Files) -> dict[str, Any]:
    pq.write_table(table_of(clustered(100, seed=8), first_id=1000), files.pool / "part-1.parquet")
    return {}


def _new_target(files: Files) -> dict[str, Any]:
    pq.write_table(table_of(clustered(12, seed=9)), files.target)
    return {}


def _new_covariance(files: Files) -> dict[str, Any]:
    np.save(files.folder / "covariance.npy", 2 * np.eye(DIM))
    return {}


CHANGES: dict[str, Callable[[Files], dict[str, Any]]] = {
    "pool": _new_pool_file,
    "targets": _new_target,
    "contents of pool.prior_covariance": _new_covariance,
    "known rows": lambda files: {"known": {"path": str(files.known)}},
    "acquisition.noise_variance": lambda _: {"acquisition": {"noise_variance": 0.5}},
    "acquisition.name": lambda _: {"acquisition": {"name": "vtl"}},
    "selection.n": lambda _: {"selection": {"n": 13}},
}


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("small_blocks")
def test_a_directory_of_other_inputs_is_refused_naming_them(files: Files, name: str, state: str) -> None:
    np.save(files.folder / "covariance.npy", np.eye(DIM))
    settings = files.settings(pool={"prior_covariance": str(files.folder / "covariance.npy")})
    if state == "finished":
        files.run(settings)
    else:
        with pytest.raises(InterruptedError):
            files.run(settings, StopAfter(1))
    changed = CHANGES[name](files)
    groups = {group: replace(getattr(settings, group), **options) for group, options in changed.items()}
    before = sorted(path.name for path in (files.folder / "run").iterdir())
    with pytest.raises(RunDirectoryError, match=rf"changed: {name}[,)]"):
        files.run(replace(settings, **groups))
    assert sorted(path.name for path in (files.folder / "run").iterdir()) == before


def test_a_changed_file_of_the_pool_is_named(files: Files) -> None:
    files.run(files.settings())
    pq.write_table(table_of(clustered(100, seed=8), first_id=1000), files.pool / "part-1.parquet")
    with pytest.raises(RunDirectoryError, match=r"changed: pool\) \(in the pool: changed: part-1\.parquet\)"):
        files.run(files.settings())


@pytest.mark.usefixtures("small_blocks")
def test_what_killed_writes_left_is_gone_when_the_run_is_done(files: Files) -> None:
    with pytest.raises(InterruptedError):
        files.run(files.settings(), StopAfter(1))
    leftovers = [
        files.folder / "run" / name
        for name in (".status.json.0123abcd.tmp", "ledger/.block-00000001.json.0123abcd.tmp")
    ]
    for path in leftovers:
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    lately = files.folder / "run" / ".status.json.0123abce.tmp"
    lately.write_bytes(b"half")
    leftovers.append(lately)
    kept = [files.folder / "run" / ".notes.tmp"]
    for path in kept:  # not ours
        path.write_bytes(b"half")
    files.run(files.settings())
    assert not any(path.exists() for path in leftovers)
    lately.write_bytes(b"half")  # killed as soon as it had finished
    files.run(files.settings())
    assert not lately.exists()
    assert all(path.exists() for path in kept)


def test_a_status_that_cannot_be_written_does_not_end_a_run(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    write, told = RunDirectory.set_status, []

    def fail_while_running(run: RunDirectory, state: str, **facts: Any) -> None:
        told.append(state)
        if state == "running":
            raise RunDirectoryError("cannot write status.json")
        write(run, state, **facts)

    monkeypatch.setattr(RunDirectory, "set_status", fail_while_running)
    assert len(files.run(files.settings())) == 12
    assert "running" in told
    assert read(files.folder / "run" / "status.json")["state"] == "finished"


def test_a_report_for_which_there_is_no_space_says_so(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def full(file: int) -> None:
        if "report.html" in str(Path(f"/proc/self/fd/{file}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr("os.fsync", full)
    settings = files.settings()
    with pytest.raises(RunDirectoryError, match=r"cannot write .*report\.html: .*No space left.* has free space"):
        files.run(replace(settings, run=replace(settings.run, report=True)))
    assert read(files.folder / "run" / "status.json")["state"] == "failed"


def test_where_rows_are_computed_may_change(files: Files) -> None:
    files.run(files.settings())
    moved = files.pool.rename(files.folder / "elsewhere")
    settings = files.settings(pool={"path": str(moved)}, cluster={"restart_deadline_s": 1.0})
    assert len(files.run(settings)) == 12


def test_a_directory_with_files_of_others_is_left_alone(files: Files) -> None:
    run = files.folder / "run"
    run.mkdir()
    (run / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match=r"thesis\.tex.*choose an empty or new directory"):
        files.run(files.settings())
    assert [path.name for path in run.iterdir()] == ["thesis.tex"]


def test_a_directory_that_cannot_be_made(files: Files) -> None:
    (files.folder / "file").touch()
    with pytest.raises(RunDirectoryError, match="choose another directory") as caught:
        files.run(files.settings("file/run"))
    assert isinstance(caught.value, ConfigError)


def test_bad_rows_leave_nothing_and_the_mended_pool_runs_in_the_same_place(files: Files) -> None:
    good = (files.pool / "part-1.parquet").read_bytes()
    rows = clustered(100, seed=8)
    rows[41, 2] = np.nan
    pq.write_table(table_of(rows, first_id=1000), files.pool / "part-1.parquet")
    settings = files.settings("runs/deep/run")
    with pytest.raises(InputError, match=r"part-1\.parquet.*row 41"):
        files.run(settings)
    assert not (files.folder / "runs").exists()
    (files.pool / "part-1.parquet").write_bytes(good)
    assert len(files.run(settings)) == 12


def test_bad_rows_empty_a_directory_that_was_there(files: Files) -> None:
    table = files.table.slice(0, 100)
    pq.write_table(table, files.pool / "part-1.parquet")
    (files.folder / "run").mkdir()
    with pytest.raises(InputError, match="occurs more than once"):
        files.run(files.settings())
    assert list((files.folder / "run").iterdir()) == []


@pytest.mark.usefixtures("small_blocks")
def test_picks_survive_bad_input_found_later(files: Files) -> None:
    settings = files.settings()
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(1))
    rows = (files.pool / "part-2.parquet").read_bytes()
    (files.pool / "part-2.parquet").unlink()
    with pytest.raises(RunDirectoryError, match=r"changed: pool\)"):
        files.run(settings)
    (files.pool / "part-2.parquet").write_bytes(rows)
    assert len(files.run(settings)) == 12


def test_a_run_that_began_without_config_is_completed(files: Files) -> None:
    with pytest.raises(InterruptedError):
        files.run(files.settings(), StopAfter(1))
    (files.folder / "run" / "config.yaml").unlink()
    files.run(files.settings())
    assert (files.folder / "run" / "config.yaml").exists()


def test_on_task_counts_come_with_the_rivals(files: Files) -> None:
    texts = [f"text {i}" for i in range(100)]
    settings = files.settings(run=None)
    settings = replace(settings, evaluation=replace(settings.evaluation, class_column="text", classes=texts))
    selection = files.run(settings)
    comparison = selection.metrics["comparison"]
    assert [row["rule"] for row in comparison] == ["itl", "nearest", "random"]
    assert comparison[0]["count"] == sum(int(row_id) < 100 for row_id in selection.ids)
    assert comparison[0]["remaining_uncertainty"] == pytest.approx(selection.remaining_uncertainty[-1])


def test_a_run_may_end_before_n_picks_or_without_any(files: Files) -> None:
    gains = files.run(files.settings("whole")).gains
    lowest = int(np.argmin(gains))
    limited = files.run(files.settings("few", selection={"min_gain": float(gains[lowest] * 1.001)}))
    assert 0 < len(limited) <= lowest
    assert limited.metrics["next_gain"] == pytest.approx(gains[len(limited)])
    nothing = files.settings("none", selection={"min_gain": 1e6})
    nothing = replace(nothing, run=replace(nothing.run, report=True))
    listener = Listener()
    assert len(files.run(nothing, listener)) == 0
    assert "no report.html: nothing was picked" in listener.lines
    run = files.folder / "none"
    assert pq.read_table(run / "selection.parquet").schema == limited.table.schema
    assert load_file(run / "picks.safetensors")["features"].shape == (0, DIM)
    assert read(run / "status.json")["state"] == "finished"
    assert summarise(files.run(nothing)).text.count("the next pick would add") == 1


@pytest.mark.usefixtures("small_blocks")
def test_a_run_tells_its_steps_and_how_long_it_will_take(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    context = {"metadata": {"job_submission_id": "raysubmit_1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(context))
    settings, told = files.settings(), []

    def watch(status: Mapping[str, Any]) -> None:
        told.append(status)
        assert read(files.folder / "run" / "status.json") == status

    problem = open_problem(settings)
    curate_problem(problem, settings, Reporter("quiet"), watch)
    assert list(dict.fromkeys(status["step"] for status in told)) == ["load", "select", "compare", "write"]
    assert {(s["rows"], s["num_asked"], s["submission_id"]) for s in told} == {(300, 12, "raysubmit_1")}
    counts = [status["num_picked"] for status in told]
    assert (counts, len(set(counts)) > 3) == (sorted(counts), True)
    assert all((s["eta_s"] is None) == (s["num_picked"] == 0) for s in told)
    assert (told[-1]["state"], told[-1]["eta_s"]) == ("finished", 0)


def test_the_time_left_is_judged_by_the_picks_of_this_try() -> None:
    told, now = [], [100.0]
    status = RunStatus(None, 1000, 50, told.append, lambda: now[0])
    status.step("load")
    now[0] = 500.0
    status.step("select", num_picked=20, gain=2.5)
    now[0] = 504.0
    advance = status.picked(28, 1.5, passes=3)
    assert (told[-1]["num_picked"], told[-1]["eta_s"], told[-1]["time"]) == (28, 11.0, 504.0)
    # Three passes over 1,000 rows in four seconds; 1.5 nats on top of what was picked before.
    assert advance == Advance(gain=4.0, rows_per_s=750.0, eta_s=11.0)
    assert (told[-1]["gain"], told[-1]["passes"], told[-1]["rows_per_s"]) == (4.0, 3, 750.0)


def test_while_rows_are_loaded_the_status_says_how_far_that_is() -> None:
    told, now = [], [100.0]
    status = RunStatus(None, 1000, 50, told.append, lambda: now[0])
    status.step("load")
    for second, done in ((100.5, 10), (101.0, 20), (101.5, 30), (103.0, 60)):
        now[0] = second
        status.loading({"done": done, "of": 1000, "rows_per_s": 20.0, "eta_s": (1000 - done) / 20})
    assert [(each["rows_loaded"], each["load_eta_s"]) for each in told[1:]] == [(20, 49.0), (60, 47.0)]
    assert (told[-1]["rows_per_s"], told[-1]["eta_s"]) == (20.0, None)
    status.step("select")
    now[0] = 200.0
    status.loading({"done": 1000, "of": 1000, "rows_per_s": 20.0, "eta_s": 0.0})
    assert "rows_loaded" not in told[-1]
    assert told[-1]["rows_per_s"] is None


def test_the_report_is_written_only_where_wanted(files: Files) -> None:
    files.run(files.settings("without", n=3))
    assert not (files.folder / "without" / "report.html").exists()
    settings = files.settings("with", n=3)
    files.run(replace(settings, run=replace(settings.run, report=True, map_sample=20)))
    assert "<html" in (files.folder / "with" / "report.html").read_text()[:200]
