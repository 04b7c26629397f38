"""What a selection reports to Ray's metrics, seen through stand-ins for Ray's counters."""

from __future__ import annotations

import pytest

from ray_itl.core.result import GreedyStats, Progress
from ray_itl.core.trajectory import Pick
from ray_itl.distributed import metrics
from ray_itl.distributed.relay import PassTime


class Recorded:
    """Counts like a Ray counter, and like one refuses to add nothing."""

    values: dict[str, float]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        assert tag_keys == ("run",)
        self._name = name

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        assert tags == {"run": "nightly"}
        self.values[self._name] = self.values.get(self._name, 0.0) + value

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tags == {"run": "nightly"}
        self.values[self._name] = value


def test_counts_add_up_to_the_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "Counter", Recorded)
    monkeypatch.setattr(metrics, "Gauge", Recorded)
    Recorded.values = {}
    told = metrics.SelectionMetrics("nightly")
    picks = [Pick(i, i, 1.0) for i in range(5)]
    told.on_pass([PassTime(100, 0.5), PassTime(50, 0.2)])
    stats = GreedyStats(passes=2)
    told.on_progress(Progress(picks[:3], 3, 5, stats))
    # A block decided by the driver alone takes no pass.
    told.on_progress(Progress(picks[3:], 5, 5, stats))
    assert Recorded.values == {
        "itl_rows_scanned": 150,
        "itl_slowest_shard_seconds": 0.5,
        "itl_rows_per_second": 300.0,
        "itl_picks": 5,
        "itl_passes": 2,
    }
