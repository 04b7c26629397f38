"""The harness itself: what it draws can be drawn again, and what differs is noticed."""

import json
import shutil
from pathlib import Path

import pytest

from tests.faults import evidence
from tests.faults.__main__ import KINDS, main
from tests.faults.results import Results, table
from tests.helpers import Files

LOCAL = ["killed_run", "killed_tick", "flaky_pool", "replaced"]


@pytest.mark.slow
def test_cases_end_well_and_an_interrupted_harness_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.jsonl"
    words = ["--seed", "2", "--table", str(path), "--kinds", *LOCAL]
    assert main(["--runs", "2", *words]) == 0
    first = path.read_text()
    path.write_text(first + '{"seed": 2, "index"')  # killed while it wrote
    path.write_text(path.read_text() + "\n")
    assert main(["--runs", "3", *words]) == 0
    lines = Results(path).read()
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert any(tried["struck"] for line in lines for tried in line["tries"])
    assert "all" in capsys.readouterr().out


def test_every_kind_is_described_and_counted() -> None:
    assert len(KINDS) >= 15
    assert all(kind.__doc__ and weight > 0 for kind, weight in KINDS.items())
    results = [{"kind": "a", "outcome": outcome, "tries": [1, 2], "seconds": 1} for outcome in ("resumed", "different")]
    assert table(results).splitlines()[-1].split() == ["all", "2", "1", "0", "0", "0", "1", "4", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = Files(tmp_path_factory.mktemp("finished"))
    files.run(files.settings())
    return files.folder / "run"


def test_differences_are_noticed(finished: Path, tmp_path: Path) -> None:
    expected = evidence.of_run(finished)
    assert evidence.difference(expected, evidence.of_run(finished)) == ""
    run = shutil.copytree(finished, tmp_path / "run")
    (run / ".half.json.tmp").touch()
    assert "files" in evidence.difference(expected, evidence.of_run(run))
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "total_gain": 0.0}))
    assert "metrics.json" in evidence.difference(expected, evidence.of_run(run))


def test_what_is_half_written_is_noticed(finished: Path, tmp_path: Path) -> None:
    expected = evidence.of_run(finished)
    run = shutil.copytree(finished, tmp_path / "run")
    assert evidence.run_in_between(run, expected) == ""
    for name in ("selection.parquet", "status.json"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: len(whole) // 2])
        assert "half-written" in evidence.run_in_between(run, expected)
        (run / name).write_bytes(whole)
    block = run / "ledger" / "block-00000000.json"
    block.unlink()
    assert evidence.run_in_between(run, expected) != ""
