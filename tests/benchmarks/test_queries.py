from pathlib import Path

import pytest

from benchmarks.__main__ import run_suite
from benchmarks.queries import EXACT
from benchmarks.settings import BenchmarkSettings, QueriesSettings


@pytest.mark.filterwarnings("ignore")  # of packages of others
def test_queries_are_selected_for_in_every_way(tmp_path: Path) -> None:
    own = QueriesSettings(num_rows=[300], dim=8, count=3, n=4, nearest=[20, 300], alone=2, num_threads=1)
    text = run_suite("queries", BenchmarkSettings(suite="queries", queries=own), tmp_path, lambda _: None)
    assert text.startswith("Queries: 4 picks for each query")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 300 | ray_itl")]
    gains = {cells[1]: cells[-1] for cells in rows}
    assert {cells[1]: cells[2] for cells in rows}["ray_itl, one by one"] == "2"
    assert gains["ray_itl, nearest 300"] == gains[EXACT]
