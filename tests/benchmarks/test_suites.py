from pathlib import Path

import pytest

from benchmarks.__main__ import SUITES, run_suite, run_suites
from benchmarks.lines import LINES
from benchmarks.settings import NOT_IN_ALL, BenchmarkSettings, GpuSettings, PeersSettings
from benchmarks.settings import SUITES as NAMES
from tests.house import ROOT

SMALL = BenchmarkSettings(
    suite="gpu", gpu=GpuSettings(device="cpu", num_rows=13_000, dim=8, num_targets=4, n=8, repeats=1)
)


def test_every_suite_that_can_be_asked_for_is_there_and_told_of() -> None:
    assert tuple(SUITES) == NAMES
    assert {*NOT_IN_ALL} < {*NAMES}
    page, help_text = (ROOT / "docs" / "results.md").read_text(), (ROOT / "benchmarks" / "config.yaml").read_text()
    for name in NAMES:
        assert f"`{name}`" in page
        assert f"suite={name} " in help_text


def test_the_suite_that_is_asked_for_runs_below_the_words_for_the_machine(tmp_path: Path) -> None:
    text = run_suites(SMALL, tmp_path, lambda _: None)
    assert text.startswith("Machine: ")
    assert "On the CPU: 13,000 x 8" in text


@pytest.mark.filterwarnings("ignore")  # of packages of others
def test_the_lines_to_beat_can_run_without_the_comparison_of_all_peers(tmp_path: Path) -> None:
    own = PeersSettings(data=["synthetic"], num_rows=[], lines=[100], dim=8, num_targets=3, n=4, line_repeats=1)
    text = run_suite("peers", BenchmarkSettings(suite="peers", peers=own), tmp_path, lambda _: None)
    assert text.startswith("Lines to beat: n = 4 ")
    assert f"| 100 | {LINES[0].name} | " in text
    assert "Peers:" not in text
    assert not (tmp_path / "peers.html").exists()
