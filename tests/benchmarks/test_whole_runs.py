from pathlib import Path

import pytest

from benchmarks.rounds import KINDS, STAGES, rounds_table, run_rounds
from benchmarks.settings import LargeSettings, RoundsSettings
from benchmarks.whole_runs import large_table, run_large

LARGE = LargeSettings(num_rows=2000, dim=8, num_targets=4, n=5, num_shards="0")


@pytest.mark.cluster
def test_a_large_run_is_timed_and_watched(tmp_path: Path) -> None:
    result = run_large(LARGE, 0, tmp_path, lambda _: None)
    assert {"load", "select"} <= set(result.stages)
    assert sum(result.stages.values()) < result.wall_seconds
    assert 50 * 2**20 < result.peak_bytes < 8 * 2**30  # Python with torch, and no more than a machine has
    assert "| whole process |" in large_table(result, LARGE)


@pytest.mark.slow
def test_rounds_are_timed_with_every_trainer(tmp_path: Path) -> None:
    settings = RoundsSettings(count=2, repeats=1)
    results = run_rounds(settings, 0, tmp_path, lambda _: None)
    assert [result.kind for result in results] == list(KINDS)
    local, fresh, long_lived = results
    # What a later round saves is the start of Ray Train.
    assert local.later["train"] < long_lived.later["train"] < fresh.later["train"]
    assert set(fresh.later) == set(STAGES)
    assert rounds_table(results, settings).count("\n| ") == 1 + len(KINDS)
