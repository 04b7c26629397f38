"""The jobs as users run them: output, files, exit codes."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_itl.curation.demo import digits_settings
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from tests.jobs.helpers import ROOT, call_job, run_job


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def demo(folder: Path) -> str:
    """Standard output of the demo, which leaves folder/demo."""
    done = run_job("curate", "run.dir=demo", "cluster.num_shards=0", "selection.n=40", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "picked 40 of 40" in done.stderr
    return done.stdout


def test_the_demo_says_what_it_found_and_where(folder: Path, demo: str) -> None:
    assert "picked 40 of 1,767 rows for 30 targets" in demo
    assert f"results: {folder / 'demo'}" in demo
    assert f"report:  {folder / 'demo' / 'report.html'}" in demo
    counts = {line.split(":")[0].strip(): int(line.split()[1]) for line in demo.splitlines() if "on task" in line}
    assert list(counts) == ["itl", "nearest", "random"]
    assert counts["random"] < 25 < counts["itl"]


def test_the_demo_leaves_its_results_and_nothing_else(folder: Path, demo: str) -> None:
    assert demo
    assert {path.name for path in folder.iterdir()} == {"demo", "digits-data"}
    names = {path.name for path in (folder / "demo").iterdir()}
    assert names >= {"selection.parquet", "report.html", "metrics.json", "posterior.safetensors", "config.yaml"}
    table = pq.read_table(folder / "demo" / "selection.parquet")
    assert table.column_names[-1] == "digit"
    assert len(set(table.column("id").to_pylist())) == 40


def test_verify_finds_the_demo_right_and_a_swap_wrong(
    folder: Path, demo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo
    done = call_job("verify", f"run.dir={folder / 'demo'}", "sample=3000", capsys=capsys)
    assert (done.returncode, done.stderr) == (0, "")
    assert "checked 40 of 40 picks by itl against 1,767 rows" in done.stdout
    path = folder / "demo" / "selection.parquet"
    table = pq.read_table(path)
    swapped = table.take([1, 0, *range(2, 40)]).set_column(0, "rank", table.column("rank"))
    pq.write_table(swapped, path)
    done = call_job("verify", f"run.dir={folder / 'demo'}", capsys=capsys)
    pq.write_table(table, path)
    assert done.returncode == 1
    assert "WRONG" in done.stdout


def test_the_same_options_again_say_that_the_run_is_finished(
    folder: Path, demo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jobs" / "curate.py")])  # its sibling is hinted at
    monkeypatch.chdir(folder)
    options = [f"run.dir={folder / 'demo'}", "cluster.num_shards=0", "selection.n=40"]
    done = call_job("curate", *options, capsys=capsys)
    assert "finished already" in done.stderr
    assert done.stdout == demo


def test_demo_data_of_another_seed_leaves_that_of_earlier_runs_alone(tmp_path: Path) -> None:
    first = digits_settings(CurationSettings(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    second = digits_settings(CurationSettings(selection=SelectionSettings(seed=1)), tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert pq.read_table(first.target.path) != pq.read_table(second.target.path)


def test_a_bad_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call_job("curate", "selection.n=0", "run.dir=x", capsys=capsys)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: selection.n=0 cannot be used: give a whole number of at least 1, or a percentage up to 100% like 5%\n"
    )
    assert list(tmp_path.iterdir()) == []
